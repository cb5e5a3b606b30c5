"""A workplace for each test, and one sshd for all, started as a worker pod starts it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.images.trainer.tiny import Operator, Workplace

SSH_PORT = 2222


@pytest.fixture
def operator() -> Iterator[Operator]:
    with Operator() as server:
        yield server
        server.shutdown()


@pytest.fixture
def workplace(tmp_path: Path, operator: Operator, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setenv("CYCLEOPS_TERMINATION_LOG", str(tmp_path / "last-words"))
    return Workplace(tmp_path, host=socket.gethostname(), operator=operator)


Ranks = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ranks(workplace: Workplace) -> Ranks:
    """Runs the two ranks of the workplace's config: with mpirun, as the launcher does once the workers answer, or as
    the only worker of a world without a launcher."""
    from cycle_trainer.launch import mpi_command, mpi_environment
    from cycle_wire.parts import Transport

    def run(*, slots: int | None = None) -> "subprocess.CompletedProcess[str]":
        config = workplace.write_config()
        world = config.world if slots is None else config.world.model_copy(update={"slots_per_host": slots})
        if world.transport is Transport.MPI:
            hostfile = workplace.folder / "hostfile"
            hostfile.write_text(f"{socket.gethostname()} slots={world.size}\n")
            command = mpi_command(world, hostfile=hostfile, config_path=workplace.config_path)
            environment = mpi_environment(ssh="ssh", world=world)
        else:
            command, environment = workplace.ranks_command, {"JOB_COMPLETION_INDEX": "0"}
        return subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
        )

    return run


@pytest.fixture(scope="session")
def ssh_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key pair, its files named as in the Secret."""
    folder = tmp_path_factory.mktemp("ssh")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
    shutil.move(folder / "key", folder / "ssh-privatekey")
    shutil.move(folder / "key.pub", folder / "ssh-publickey")
    return folder


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory, ssh_key: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker's sshd; stopped with SIGTERM at the end."""
    config = tmp_path_factory.mktemp("worker") / "config.json"
    path = str(config.parent)
    spec = {
        "job": {"namespace": "n", "name": "j", "uid": "u"}, "task": "TextClassification", "modelPath": path,
        "trainPath": path, "evaluationPath": path, "fields": {}, "outputPath": path, "outputUri": "pvc://m/x",
        "world": {"hosts": ["localhost"], "slotsPerHost": 1, "backend": "Horovod", "transport": "MPI"},
        "training": {"maximumSteps": 1}, "evaluation": {}, "checkpoint": {}, "variants": [], "sshPort": SSH_PORT,
    }  # fmt: skip
    config.write_text(json.dumps(spec))
    code = (
        "import sys; from pathlib import Path; from cycle_trainer import worker; "
        "from cycle_wire.training import TrainingConfig; "
        "config = TrainingConfig.model_validate_json(Path(sys.argv[1]).read_text()); "
        "sys.exit(worker.run(config, public_key=Path(sys.argv[2])))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(config), str(ssh_key / "ssh-publickey")])
    deadline = time.monotonic() + 30
    while not _answers():
        assert process.poll() is None and time.monotonic() < deadline, "sshd doesn't answer"
        time.sleep(0.1)
    yield process
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)


def _answers() -> bool:
    try:
        with socket.create_connection(("localhost", SSH_PORT), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
