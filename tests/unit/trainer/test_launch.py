"""The launcher without MPI: waiting for workers over real sockets, and what it tells mpirun."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cycle_trainer import launch
from cycle_trainer.cli import execute
from cycle_wire.parts import Backend, Transport
from cycle_wire.reports import EXIT_BAD_INPUT
from cycle_wire.training import World

WORLD = World(
    hosts=["job-worker-0.job-workers", "job-worker-1.job-workers"],
    slots_per_host=2,
    backend=Backend.HOROVOD,
    transport=Transport.MPI,
    threads_per_rank=3,
)


def greet(server: socket.socket, greeting: bytes) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.sendall(greeting)


@pytest.fixture
def listener(request: pytest.FixtureRequest) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=greet, args=(server, request.param), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def silent_sshds(port: int, *, timeout_seconds: float) -> dict[str, str]:
    return launch.wait_for_hosts(
        ["127.0.0.1"], problem=lambda host: launch.greeting_problem(host, port=port), timeout_seconds=timeout_seconds
    )


@pytest.mark.parametrize("listener", [b"SSH-2.0-OpenSSH_9.2\r\n"], indirect=True)
def test_an_sshd_that_greets_is_ready(listener: int) -> None:
    assert silent_sshds(listener, timeout_seconds=5) == {}


@pytest.mark.parametrize("listener", [b"220 mail\r\n"], indirect=True)
def test_something_else_on_the_port_is_no_worker(listener: int) -> None:
    assert "not an sshd" in silent_sshds(listener, timeout_seconds=0)["127.0.0.1"]


def test_time_runs_out_for_the_silent_only() -> None:
    problems = {"a": None, "b": "Connection refused"}
    assert launch.wait_for_hosts(["a", "b"], problem=problems.get, timeout_seconds=0) == {"b": "Connection refused"}


def test_ranks_fill_hosts_in_order_and_are_bound_to_nothing() -> None:
    assert launch.hostfile_of(WORLD).splitlines() == [f"{host} slots=2" for host in WORLD.hosts]
    command = launch.mpi_command(WORLD, hostfile=Path("/x/hostfile"), config_path=Path("/x/config.json"))
    text = " ".join(command)
    assert "-np 4" in text and "--bind-to none" in text and "-x OMP_NUM_THREADS=3" in text
    assert command[-4:] == ["cycle_trainer", "train", "--config", "/x/config.json"]


def test_both_open_mpi_families_are_told_by_their_own_names() -> None:
    environment = launch.mpi_environment(ssh="ssh -p 2222", world=WORLD)
    assert environment["OMPI_MCA_plm_rsh_agent"] == environment["PRTE_MCA_plm_ssh_agent"] == "ssh -p 2222"
    assert environment["OMPI_MCA_orte_keep_fqdn_hostnames"] == environment["PRTE_MCA_prte_keep_fqdn_hostnames"] == "1"


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_a_bad_config_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    monkeypatch.setenv("CYCLEOPS_TERMINATION_LOG", str(tmp_path / "last-words"))
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert execute("launch", config_path=tmp_path / "config.json") == EXIT_BAD_INPUT
    assert "BadConfig" in (tmp_path / "last-words").read_text()


def test_silent_workers_fail_the_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLEOPS_TERMINATION_LOG", str(tmp_path / "last-words"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        free_port = server.getsockname()[1]
    path = str(tmp_path)
    config = {
        "job": {"namespace": "n", "name": "j", "uid": "u"}, "task": "TextClassification", "modelPath": path,
        "trainPath": path, "evaluationPath": path, "fields": {}, "outputPath": path, "outputUri": "pvc://m/x",
        "world": {"hosts": ["127.0.0.1"], "slotsPerHost": 1, "backend": "Horovod", "transport": "MPI"},
        "training": {"maximumSteps": 1}, "evaluation": {}, "checkpoint": {}, "variants": [],
        "sshPort": free_port, "launchTimeoutSeconds": 1,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert execute("launch", config_path=tmp_path / "config.json") == 1
    words = (tmp_path / "last-words").read_text()
    assert "WorkersUnreachable" in words and "127.0.0.1" in words
