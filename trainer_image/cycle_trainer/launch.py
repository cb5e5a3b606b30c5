"""The launcher pod: waits until every worker's sshd answers, then runs mpirun. It runs no rank itself."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cycle_trainer.failures import report_failure, write_termination_message
from cycle_wire.reports import FailureReport
from cycle_wire.sender import Sender
from cycle_wire.training import TrainingConfig, World

logger = logging.getLogger(__name__)

PRIVATE_KEY = Path("/etc/cycleops-ssh/ssh-privatekey")
CONNECT_SECONDS = 2.0
SAY_EVERY_SECONDS = 5.0
# What a rank takes over from the launcher's environment; a login through ssh starts with almost none.
PASSED_ON = (
    "PATH", "HOME", "TMPDIR", "LANG", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "HF_HUB_OFFLINE",
    "TOKENIZERS_PARALLELISM", "CYCLEOPS_TERMINATION_LOG",
)  # fmt: skip


def run(config: TrainingConfig, *, config_path: Path, private_key: Path = PRIVATE_KEY) -> int:
    """mpirun's exit code, which is the first failing rank's; 1 when a worker doesn't answer in time."""
    silent = wait_for_hosts(
        config.world.hosts,
        problem=lambda host: greeting_problem(host, port=config.ssh_port),
        timeout_seconds=config.launch_timeout_seconds,
    )
    if silent:
        message = f"no sshd answered within {config.launch_timeout_seconds} s on: " + "; ".join(
            f"{host} ({problem})" for host, problem in silent.items()
        )
        logger.error(message)
        write_termination_message(f"WorkersUnreachable: {message}")
        failure = FailureReport(reason="WorkersUnreachable", message=message[:2000])
        report_failure(Sender(target=config.report, job=config.job), failure)
        return 1
    with tempfile.TemporaryDirectory(prefix="cycle-launch-") as name:
        folder = Path(name)
        hostfile = folder / "hostfile"
        hostfile.write_text(hostfile_of(config.world), encoding="utf-8")
        key = folder / "key"
        shutil.copyfile(private_key, key)  # ssh refuses a key that a group may read, as a Secret's is
        key.chmod(0o600)
        code = _run_mpi(
            mpi_command(config.world, hostfile=hostfile, config_path=config_path),
            environment=mpi_environment(ssh=ssh_command(port=config.ssh_port, key=key), world=config.world),
        )
    if code:
        write_termination_message(f"mpirun ended with code {code}; the ranks' messages are above it in the log")
    return code


def wait_for_hosts(
    hosts: Sequence[str], *, problem: Callable[[str], str | None], timeout_seconds: float
) -> dict[str, str]:
    """Wait until no host has a problem any more; {host: problem} of those that still have one then."""
    deadline = time.monotonic() + timeout_seconds
    silent = dict.fromkeys(hosts, "not tried")
    said = 0.0
    while silent:
        for host in list(silent):
            found = problem(host)
            if found is None:
                del silent[host]
                logger.info("worker %s answers (%d of %d)", host, len(hosts) - len(silent), len(hosts))
            else:
                silent[host] = found
        now = time.monotonic()
        if not silent or now > deadline:
            break
        if now - said >= SAY_EVERY_SECONDS:
            said = now
            host, found = next(iter(silent.items()))
            logger.info("waiting for %d of %d workers, such as %s: %s", len(silent), len(hosts), host, found)
        time.sleep(0.5)
    return silent


def connection_problem(host: str, *, port: int) -> str | None:
    """Why nothing accepts connections there; None when something does."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
            return None
    except OSError as error:
        return str(error)


def greeting_problem(host: str, *, port: int) -> str | None:
    """Why no sshd answers there: a name that resolves is not a worker that answers, so it is asked for its banner."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
            connection.settimeout(CONNECT_SECONDS)
            greeting = connection.recv(64)
    except OSError as error:
        return str(error)
    return None if greeting.startswith(b"SSH-") else f"not an sshd: {greeting!r}"


def hostfile_of(world: World) -> str:
    return "".join(f"{host} slots={world.slots_per_host}\n" for host in world.hosts)


def ssh_command(*, port: int, key: Path) -> str:
    """Workers make their host keys at start; who may join is decided by the job's own key pair."""
    return (
        f"ssh -p {port} -i {key} -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
        "-o LogLevel=ERROR -o ConnectTimeout=10 -o ServerAliveInterval=15 -o ServerAliveCountMax=4"
    )


def mpi_command(world: World, *, hostfile: Path, config_path: Path) -> list[str]:
    """Ranks fill the hosts in order; bound to nothing, or two pods' ranks would both land on core 0."""
    passed = [name for name in PASSED_ON if name in os.environ]
    command = ["mpirun", "--hostfile", str(hostfile), "-np", str(world.size), "--bind-to", "none"]
    command += ["--allow-run-as-root"] if os.geteuid() == 0 else []
    for name in passed:
        command += ["-x", name]
    for name, value in rank_environment(world).items():
        command += ["-x", f"{name}={value}"]
    return [*command, sys.executable, "-m", "cycle_trainer", "train", "--config", str(config_path)]


def rank_environment(world: World) -> dict[str, str]:
    """What every rank of Horovod's is told, whoever starts it."""
    return {
        "OMP_NUM_THREADS": str(world.threads_per_rank),
        # Ranks that wait should not burn the CPU that others need. Horovod's background threads meet once a cycle, and
        # in MPI the first one there spins until the others come: at the default of 1 ms that is a quarter of a core.
        # A step takes two or three cycles. The buffer is sized for small pods.
        "HOROVOD_CYCLE_TIME": "15",
        "HOROVOD_FUSION_THRESHOLD": str(32 * 1024 * 1024),
    }


def mpi_environment(*, ssh: str, world: World) -> dict[str, str]:
    """Settings by the names of both families: Open MPI 4 (ORTE) and Open MPI 5 (PRRTE). Unknown ones are ignored."""
    # Open MPI 5 calls vader sm, and still knows the old name.
    local = "vader" if world.slots_per_host > 1 else ""
    return {
        "OMPI_MCA_plm_rsh_agent": ssh,
        "PRTE_MCA_plm_ssh_agent": ssh,
        # The launcher alone starts the daemons: workers hold no private key.
        "OMPI_MCA_plm_rsh_no_tree_spawn": "1",
        "PRTE_MCA_plm_ssh_no_tree_spawn": "1",
        # Short names don't resolve in another pod.
        "OMPI_MCA_orte_keep_fqdn_hostnames": "1",
        "PRTE_MCA_prte_keep_fqdn_hostnames": "1",
        "OMPI_MCA_pml": "ob1",
        "OMPI_MCA_btl": ",".join(part for part in ("self", local, "tcp") if part),
        "OMPI_MCA_btl_vader_single_copy_mechanism": "none",  # else needs ptrace, which a pod may not
        "OMPI_MCA_mpi_yield_when_idle": "1",
    }


def _run_mpi(command: Sequence[str], *, environment: Mapping[str, str]) -> int:
    logger.info("%s", " ".join(command))
    process = subprocess.Popen(command, env={**os.environ, **environment})
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: process.send_signal(received))
    code = process.wait()
    return code if code >= 0 else 128 - code
