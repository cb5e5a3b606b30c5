"""Long commands whose output goes to a log file, with a line of progress now and then."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.paths import ClusterError, say

HEARTBEAT_SECONDS = 20


def run_watched(
    command: Sequence[str | Path], *, log: Path, label: str, environment: Mapping[str, str] | None = None
) -> None:
    """Run a command at low priority with both streams in `log`; every 20 s say what its last line was.

    Raises ClusterError with the last lines of the log when the command fails.
    """
    words = ["nice", *(str(word) for word in command)]
    log.parent.mkdir(parents=True, exist_ok=True)
    done = threading.Event()
    began = time.monotonic()

    def heartbeat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            say(f"  {label}: {time.monotonic() - began:.0f} s, {_last_line(log)[:100]}")

    say(f"{label} ...")
    with log.open("w") as sink:
        threading.Thread(target=heartbeat, daemon=True).start()
        try:
            process = subprocess.Popen(
                words, env={**os.environ, **(environment or {})}, stdout=sink, stderr=subprocess.STDOUT
            )
            status = _wait_or_end(process)
        finally:
            done.set()
    if status != 0:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise ClusterError(f"{label} failed with code {status} (whole log: {log}):\n{last}")
    say(f"{label}: {time.monotonic() - began:.0f} s")


def _wait_or_end(process: subprocess.Popen[bytes]) -> int:
    """Wait for the process; when this program is interrupted, end it first."""
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait(timeout=30)
        raise


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "working"
