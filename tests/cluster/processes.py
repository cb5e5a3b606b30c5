"""Processes that end with their parent, each with its log."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.paths import ClusterError

PR_SET_PDEATHSIG = 1
END_SECONDS = 5.0
_LIBC = ctypes.CDLL(None, use_errno=True)


def end_with_parent() -> None:
    """Run in a new child: the kernel kills it when the thread that started it ends."""
    if _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


class Processes:
    """The running components by name, in the order of their start."""

    def __init__(self, *, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a component; its output goes to NAME.log. Only from the main thread, which must live on."""
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, preexec_fn=end_with_parent
            )

    def check(self) -> None:
        """Raise ClusterError when a component has ended: none of them should."""
        for name, process in self._running.items():
            if process.poll() is not None:
                last = "\n".join((self._logs / f"{name}.log").read_text(errors="replace").splitlines()[-8:])
                raise ClusterError(f"{name} ended with code {process.returncode}; the end of its log:\n{last}")

    def stop(self, name: str) -> None:
        """SIGTERM, then after five seconds SIGKILL; quiet when it isn't running."""
        process = self._running.pop(name, None)
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop_all(self) -> None:
        """Stop in the reverse order of their start."""
        for name in reversed(list(self._running)):
            self.stop(name)

    def reap_strangers(self) -> None:
        """Collect ended children that aren't components: orphans come to the init process of a pid namespace."""
        own = {process.pid for process in self._running.values()}
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            if ended.si_pid in own:
                self.check()
                return
            os.waitid(os.P_PID, ended.si_pid, os.WEXITED | os.WNOHANG)


def wait_until_gone(pidfd: int, *, seconds: float) -> bool:
    """Whether the process behind a pidfd ended within the time."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if poller.poll(left * 1000):
            return True
    return bool(poller.poll(0))
