"""The host's side of one cluster: starts its supervisor, watches its owner, and clears up after both.

The keeper is a process of its own session, so a Ctrl-C in the owner's terminal doesn't reach it, and
it holds the slot's lock for its whole life. It ends the cluster when its owner ends (however that
happens), on SIGTERM, or when the supervisor ends. The kernel kills the supervisor should the keeper
itself be killed; what is then left (empty cgroups, the work folder) goes at the slot's next start.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.cluster import cgroups, network
from tests.cluster.paths import REPOSITORY, ClusterError, discard, say
from tests.cluster.processes import end_with_parent
from tests.cluster.settings import Settings

STARTING, READY, FAILED, STOPPED = "starting", "ready", "failed", "stopped"
STOP_SECONDS = 25
STATE_FILE = "state.json"
# Its own namespaces; the child dies with `unshare`, and `unshare` with the keeper.
UNSHARE = ("unshare", "--fork", "--pid", "--mount", "--net", "--mount-proc", "--kill-child")


@dataclass(frozen=True, kw_only=True)
class State:
    """What a keeper tells about its cluster, in `state.json` of the work folder."""

    phase: str
    message: str
    keeper_pid: int
    supervisor_pid: int = 0

    def write(self, folder: Path) -> None:
        """Replace the file at once, so that a reader never sees half of it."""
        temporary = folder / f".{STATE_FILE}"
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(folder / STATE_FILE)

    @classmethod
    def read(cls, folder: Path) -> State | None:
        """The last state written there, if any."""
        path = folder / STATE_FILE
        return cls(**json.loads(path.read_text())) if path.exists() else None


def clear_up(settings: Settings) -> None:
    """Remove what a cluster of this slot left on the host; quiet when there is nothing."""
    if settings.full:
        network.detach(settings)
        cgroups.remove(settings.cgroup)
    if settings.runtime.exists():
        discard(settings.runtime)


class Keeper:
    """Runs one cluster from its start to the end of its traces."""

    def __init__(self, settings: Settings, *, owner_pid: int, detach: bool) -> None:
        self._settings = settings
        self._owner = os.pidfd_open(owner_pid)
        self._detach = detach
        self._state = State(phase=STARTING, message="", keeper_pid=os.getpid())
        self._wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # the byte in the pipe is what the loop sees

    def run(self) -> int:
        """Start, wait for a reason to end, stop, clear up. 0 when the cluster had become ready."""
        settings = self._settings
        clear_up(settings)
        if settings.logs.exists():
            discard(settings.logs)
        for folder in (settings.logs / "pods", settings.volumes, settings.containerd_root):
            folder.mkdir(parents=True, exist_ok=True)
        self._become()
        process = self._start_supervisor()
        try:
            self._attach(process)
            self._follow(process)
        except ClusterError as error:
            self._become(phase=FAILED, message=str(error))
        finally:
            failed = self._state.phase == FAILED
            self._stop(process)
            clear_up(settings)
            if not failed:
                self._become(phase=STOPPED, message="")
        return 1 if failed else 0

    def _become(self, **changes: str | int) -> None:
        self._state = replace(self._state, **changes)  # type: ignore[arg-type]
        self._state.write(self._settings.work)

    def _start_supervisor(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.cluster.supervisor", self._settings.to_json()]
        if self._settings.full:
            cgroups.create(self._settings.cgroup)
            command = [*UNSHARE, *command]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(self._settings.runtime)}
        with (self._settings.logs / "supervisor.log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, bufsize=0,
                cwd=REPOSITORY, env=environment, preexec_fn=end_with_parent,
            )  # fmt: skip

    def _attach(self, process: subprocess.Popen[bytes]) -> None:
        """Note the supervisor's pid as the host sees it and connect its network namespace."""
        if not self._settings.full:
            self._become(supervisor_pid=process.pid)
            return
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        for _ in range(200):
            if process.poll() is not None:
                raise ClusterError(f"unshare failed with code {process.returncode}; see {self._settings.logs}")
            if found := children.read_text().split():
                break
            time.sleep(0.02)
        else:
            raise ClusterError("unshare started no supervisor")
        self._become(supervisor_pid=int(found[0]))
        network.attach(self._settings, pid=int(found[0]))

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        """Note what the supervisor reports until it, the owner, or a signal says that this is the end."""
        assert process.stdout is not None
        reports = process.stdout.fileno()
        buffer = b""
        watched = [reports, self._owner, self._wake_read]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if self._wake_read in ready:
                os.read(self._wake_read, 64)
                if process.poll() is None:
                    return say("stopping: a signal asked for it")
            if self._owner in ready:
                return say("stopping: the owner has ended")
            if reports not in ready:
                continue
            received = os.read(reports, 4096)
            buffer += received
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                self._take(line.decode())
            if self._state.phase == READY and self._detach and self._owner in watched:
                watched.remove(self._owner)
            if not received:
                raise ClusterError(self._state.message or f"the supervisor has ended; see {self._settings.logs}")

    def _take(self, line: str) -> None:
        kind, _, text = line.partition(" ")
        if kind == "ready":
            self._become(phase=READY, message="")
        elif kind == "failed":
            self._become(phase=FAILED, message=text.replace(" | ", "\n"))
        else:
            self._become(message=text)

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        """Ask the supervisor, then insist; either way nothing of it is left."""
        target = self._state.supervisor_pid
        if process.poll() is None and target:
            try:
                os.kill(target, signal.SIGTERM)
                process.wait(timeout=STOP_SECONDS)
            except ProcessLookupError:
                say("the supervisor ended by itself")
            except subprocess.TimeoutExpired:
                say(f"the supervisor did not end within {STOP_SECONDS} s")
        if process.poll() is None:
            process.kill()
        process.wait()


def main() -> int:
    """Arguments: settings as JSON, the owner's pid, `detach` (forget the owner once ready) or `stay`."""
    settings = Settings.from_json(sys.argv[1])
    keeper = Keeper(settings, owner_pid=int(sys.argv[2]), detach=sys.argv[3] == "detach")
    return keeper.run()


if __name__ == "__main__":
    sys.exit(main())
