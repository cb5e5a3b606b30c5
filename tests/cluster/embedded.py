"""The embedded cluster as its users see it: start one, stop one, find the one that `up` left running."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import binaries, network
from tests.cluster.keeper import FAILED, READY, STOPPED, State
from tests.cluster.paths import REPOSITORY, ClusterError, cache_folder, say, work_folder
from tests.cluster.processes import wait_until_gone
from tests.cluster.settings import Settings

SLOTS = 16
START_SECONDS = 150
STOP_SECONDS = 60
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Embedded:
    """A running embedded cluster."""

    settings: Settings
    state: State

    def stop(self) -> None:
        """Stop it and wait until all its traces are gone. Raises ClusterError when they aren't."""
        end_keeper(self.state.keeper_pid)
        state = State.read(self.settings.work)
        if state and state.keeper_pid == self.state.keeper_pid and state.phase == READY:
            log = self.settings.work / "keeper.log"
            raise ClusterError(f"cluster {self.settings.name} did not clear up after itself:\n{log.read_text()}")

    def is_running(self) -> bool:
        """Whether its keeper lives and says that it is ready."""
        state = State.read(self.settings.work)
        return state is not None and state.phase == READY and keeper_lives(state.keeper_pid)


def keeper_lives(pid: int) -> bool:
    """Whether a process is a keeper (a pid may have been given to another program since)."""
    try:
        return b"tests.cluster.keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def end_keeper(pid: int) -> None:
    """SIGTERM to a keeper and wait for its end, which is the end of the cluster; quiet when it is gone."""
    if not keeper_lives(pid):
        return
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not wait_until_gone(handle, seconds=STOP_SECONDS):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            raise ClusterError(f"the cluster's keeper (process {pid}) did not stop within {STOP_SECONDS} s")
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


def start(*, full: bool, detach: bool = False) -> Embedded:
    """Start a cluster in a free slot and wait until it is ready.

    It stops when this process ends, unless `detach`: then from the moment it is ready it stays until
    it is stopped. Raises ClusterError with the reason and where the logs are.
    """
    if full and os.geteuid() != 0:
        raise ClusterError("the embedded cluster needs root (namespaces, cgroups, mounts); or set KUBECONFIG")
    programs = binaries.build_all()
    slot, lock = _claim_slot(full=full)
    try:
        settings = _settings(slot=slot, full=full, programs=programs)
        settings.work.mkdir(parents=True, exist_ok=True)
        (settings.work / "state.json").unlink(missing_ok=True)
        keeper = _start_keeper(settings, lock=lock, detach=detach)
    finally:
        os.close(lock)  # the keeper holds it now
    try:
        return Embedded(settings, _wait_until_ready(settings, keeper))
    except BaseException:
        end_keeper(keeper.pid)
        keeper.wait()
        raise


def _claim_slot(*, full: bool) -> tuple[int, int]:
    """(slot, descriptor that holds its lock). Full slots belong to the machine, API-only ones to the checkout."""
    folder = Path(tempfile.gettempdir()) / "cycleops-slots" if full else work_folder("slots")
    folder.mkdir(parents=True, exist_ok=True)
    for slot in range(SLOTS):
        descriptor = os.open(folder / f"slot-{slot}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        return slot, descriptor
    raise ClusterError(f"all {SLOTS} slots for embedded clusters are in use")


def _settings(*, slot: int, full: bool, programs: Path) -> Settings:
    if full:
        work, root = work_folder(f"slot-{slot}"), cache_folder("containerd") / f"slot-{slot}"
        return Settings(
            slot=slot, full=True, work=work, programs=programs, containerd_root=root, network_base=network.free_base()
        )
    work = work_folder(f"api-{slot}")
    api, client, peer = _free_ports(3)
    return Settings(
        slot=slot, full=False, work=work, programs=programs, containerd_root=work / "run" / "unused",
        api_port=api, etcd_port=client, etcd_peer_port=peer,
    )  # fmt: skip


def _free_ports(count: int) -> list[int]:
    """Loopback ports that nothing listens on; they are free again when this returns."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for candidate in sockets:
            candidate.bind(("127.0.0.1", 0))
        return [int(candidate.getsockname()[1]) for candidate in sockets]
    finally:
        for candidate in sockets:
            candidate.close()


def _start_keeper(settings: Settings, *, lock: int, detach: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.cluster.keeper", settings.to_json(), str(os.getpid())]
    command.append("detach" if detach else "stay")
    with (settings.work / "keeper.log").open("wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, pass_fds=(lock,),
            start_new_session=True, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip


def _wait_until_ready(settings: Settings, keeper: subprocess.Popen[bytes]) -> State:
    began, told = time.monotonic(), ""
    while time.monotonic() - began < START_SECONDS:
        ended = keeper.poll() is not None
        state = State.read(settings.work)
        if state and state.phase == READY:
            say(f"cluster {settings.name} is ready after {time.monotonic() - began:.1f} s: {settings.server}")
            return state
        if ended or (state and state.phase in {FAILED, STOPPED}):
            reason = state.message if state and state.message else (settings.work / "keeper.log").read_text()
            raise ClusterError(f"the cluster did not start: {reason}\nlogs: {settings.logs}")
        if state and state.message != told:
            told = state.message
            say(told)
        time.sleep(POLL_SECONDS)
    raise ClusterError(f"the cluster was not ready within {START_SECONDS} s; logs: {settings.logs}")
