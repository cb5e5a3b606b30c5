"""Where things are kept, and the few helpers that every module here needs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


class ClusterError(RuntimeError):
    """Something about the test cluster failed; the message says what to do or where to look."""


def cache_folder(*parts: str) -> Path:
    """A folder below ${CYCLEOPS_CACHE:-~/.cache/cycleops}, created when missing."""
    root = Path(os.environ.get("CYCLEOPS_CACHE") or Path.home() / ".cache" / "cycleops")
    folder = root.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def work_folder(name: str) -> Path:
    """The folder of one cluster in this checkout: out/cluster/NAME (not created)."""
    return REPOSITORY / "out" / "cluster" / name


@contextmanager
def file_lock(path: Path, *, what: str) -> Iterator[None]:
    """Hold an exclusive lock on `path`; says so once when another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process: {what}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def content_hash(parts: Sequence[bytes | str]) -> str:
    """First 16 hex digits of a SHA-256 over the parts, each preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()[:16]


_STARTED = time.monotonic()


def say(message: str) -> None:
    """One line of progress on stderr with the seconds since this process began."""
    print(f"[{time.monotonic() - _STARTED:6.1f} s] {message}", file=sys.stderr, flush=True)


@contextmanager
def timed(message: str) -> Iterator[None]:
    """Say that a step begins, and how long it took once it has ended well."""
    say(f"{message} ...")
    began = time.monotonic()
    yield
    say(f"{message}: {time.monotonic() - began:.1f} s")


def run(command: Sequence[str | Path], *, log: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed on stdout.

    With `log` both streams go to that file instead (and "" is returned).
    Raises ClusterError with the last lines of its output when it fails.
    """
    words = [str(word) for word in command]
    merged = {**os.environ, **(environment or {})}
    if log is None:
        done = subprocess.run(words, capture_output=True, text=True, env=merged, check=False)
        output, tail = done.stdout, done.stderr or done.stdout
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as sink:
            done = subprocess.run(words, stdout=sink, stderr=subprocess.STDOUT, env=merged, check=False, text=True)
        output, tail = "", log.read_text(errors="replace")
    if done.returncode != 0:
        last = "\n".join(tail.strip().splitlines()[-25:])
        raise ClusterError(f"{' '.join(words[:6])} ... ended with code {done.returncode}:\n{last}")
    return output


def discard(path: Path) -> None:
    """Remove a file or folder that may not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=False)
    else:
        path.unlink(missing_ok=True)
