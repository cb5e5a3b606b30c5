"""A worker pod whose ranks nobody launches: it runs its own, and they meet the others at the first worker.

With torchrun, its agent runs the ranks and holds the c10d rendezvous. With Horovod over Gloo this process does the
same: the first worker serves Horovod's rendezvous, and each worker tells its ranks who they are.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cycle_trainer.failures import report_failure, write_termination_message
from cycle_trainer.launch import connection_problem, rank_environment, wait_for_hosts
from cycle_wire.parts import Backend
from cycle_wire.reports import FailureReport
from cycle_wire.sender import Sender
from cycle_wire.training import TrainingConfig

logger = logging.getLogger(__name__)

INDEX_VARIABLE = "JOB_COMPLETION_INDEX"  # an Indexed Job gives it to each of its pods
STOP_SECONDS = 10.0
SIGNALLED = 128  # a shell's exit code of what a signal ended is above
STOPPED = SIGNALLED + signal.SIGTERM


def run(config: TrainingConfig, *, config_path: Path, index: int | None = None) -> int:
    """The exit code of this worker's first rank that failed, 128 and the signal's number for one that was killed."""
    index = int(os.environ.get(INDEX_VARIABLE, "0")) if index is None else index
    command = [sys.executable, "-m", "cycle_trainer", "train", "--config", str(config_path)]
    if config.world.backend is Backend.TORCHRUN:
        return _meet(config, index=index) or _torchrun(config, command, index=index)
    with rendezvous(config) if index == 0 else _elsewhere():
        return _meet(config, index=index) or run_all(command, environments=horovod_environments(config, index=index))


def _meet(config: TrainingConfig, *, index: int) -> int:
    """0 once the first worker can be reached by its name (its own ranks wait for the others); 1 when it isn't in time.

    A pod's name is known to others some seconds after the pod runs.
    """
    if index == 0:
        return 0
    first, port, seconds = config.world.hosts[0], config.rendezvous_port, config.launch_timeout_seconds
    silent = wait_for_hosts([first], problem=lambda host: connection_problem(host, port=port), timeout_seconds=seconds)
    if not silent:
        return 0
    message = f"worker {index}: no rendezvous within {seconds} s at {first}:{port} ({silent[first]})"
    logger.error(message)
    write_termination_message(f"WorkersUnreachable: {message}")
    failure = FailureReport(reason="WorkersUnreachable", message=message)
    report_failure(Sender(target=config.report, job=config.job), failure)
    return 1


def _torchrun(config: TrainingConfig, command: Sequence[str], *, index: int) -> int:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    world, seconds = config.world, config.launch_timeout_seconds
    launch = LaunchConfig(
        min_nodes=len(world.hosts),
        max_nodes=len(world.hosts),
        nproc_per_node=world.slots_per_host,
        run_id=config.job.uid,
        rdzv_backend="c10d",
        rdzv_endpoint=f"{world.hosts[0]}:{config.rendezvous_port}",
        rdzv_configs={"is_host": index == 0, "join_timeout": seconds, "read_timeout": seconds},
        max_restarts=0,  # the Job restarts pods, and counts
        # Ranks are dealt to workers by the order of these names, in which the first worker is the first.
        local_addr=world.hosts[index],
    )
    os.environ["OMP_NUM_THREADS"] = str(world.threads_per_rank)
    try:
        elastic_launch(launch, command[0])(*command[1:])
    except ChildFailedError as error:
        # What it ends itself counts as failed for it too: by SIGTERM, and by SIGKILL 30 s later.
        first = min(failure.timestamp for failure in error.failures.values())
        return cause([each.exitcode for each in error.failures.values() if each.timestamp < first + STOP_SECONDS])
    except SignalException as stop:
        return SIGNALLED + int(stop.sigval)
    return 0


@contextmanager
def rendezvous(config: TrainingConfig) -> Iterator[None]:
    """Horovod's key-value server, where Gloo's ranks leave their addresses."""
    from horovod.runner.common.util.hosts import HostInfo, get_host_assignments
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

    world = config.world
    hosts = [HostInfo(host, world.slots_per_host) for host in world.hosts]
    server = RendezvousHTTPServer(("", config.rendezvous_port), RendezvousHandler, 0)
    server.init(get_host_assignments(hosts, world.size))
    threading.Thread(target=server.serve_forever, name="rendezvous", daemon=True).start()
    logger.info("%d ranks meet at %s:%d", world.size, world.hosts[0], config.rendezvous_port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _elsewhere() -> Iterator[None]:
    """The rendezvous is at the first worker."""
    yield


def horovod_environments(config: TrainingConfig, *, index: int) -> list[dict[str, str]]:
    """Of each rank of a worker: who it is, and where the others are."""
    world = config.world
    return [
        {
            "HOROVOD_CONTROLLER": "gloo",
            "HOROVOD_CPU_OPERATIONS": "gloo",
            "HOROVOD_GLOO_RENDEZVOUS_ADDR": world.hosts[0],
            "HOROVOD_GLOO_RENDEZVOUS_PORT": str(config.rendezvous_port),
            "HOROVOD_GLOO_TIMEOUT_SECONDS": str(config.launch_timeout_seconds),
            "HOROVOD_HOSTNAME": world.hosts[index],
            "HOROVOD_RANK": str(index * world.slots_per_host + slot),
            "HOROVOD_SIZE": str(world.size),
            "HOROVOD_LOCAL_RANK": str(slot),
            "HOROVOD_LOCAL_SIZE": str(world.slots_per_host),
            "HOROVOD_CROSS_RANK": str(index),
            "HOROVOD_CROSS_SIZE": str(len(world.hosts)),
            **rank_environment(world),
        }
        for slot in range(world.slots_per_host)
    ]


def run_all(command: Sequence[str], *, environments: Sequence[Mapping[str, str]]) -> int:
    """Run the command once with each environment; when one ends badly or a signal comes, all end. Its exit code."""
    ranks = [subprocess.Popen(command, env={**os.environ, **environment}) for environment in environments]
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: stopped.append(received))
    while not stopped and not any(rank.poll() for rank in ranks) and any(rank.poll() is None for rank in ranks):
        time.sleep(0.1)
    code = cause([rank.poll() for rank in ranks])
    _stop(ranks)
    return SIGNALLED + stopped[0] if stopped else code


def cause(codes: Sequence[int | None]) -> int:
    """Exit code of the rank that the others failed by, as a shell says it; 0 when none failed. None: still runs.

    A rank that was killed comes first: its neighbours fail by themselves a moment later, with a code that says nothing.
    One that SIGTERM ended comes last: that is how torchrun ends the neighbours of a rank that failed.
    """
    failed = [_shell_code(code) for code in codes if code]
    killed = [code for code in failed if code > SIGNALLED and code != STOPPED]
    own = [code for code in failed if code < SIGNALLED]
    return next(iter(killed or own or failed), 0)


def _stop(ranks: Sequence["subprocess.Popen[bytes]"]) -> None:
    for rank in ranks:
        rank.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for rank in ranks:
        try:
            rank.wait(timeout=max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            rank.kill()
            rank.wait()


def _shell_code(code: int) -> int:
    """Python says -9 where a shell says 137."""
    return code if code >= 0 else SIGNALLED - code
