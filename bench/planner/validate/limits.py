"""A CPU limit for the servers as Kubernetes sets it: so much CPU time in each 100 ms, then they stand still.

A cgroup needs root, and the image's user is none: what runs in the image asks in a file, and the host grants.
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.planner.validate.files import Files

PERIOD_MICROSECONDS = 100_000
GROUP = f"cycleops-bench-{os.getpid()}"
LOOK_SECONDS = 0.2
GRANT_SECONDS = 30.0


@contextmanager
def limited(files: Files, configs: Sequence[Path], cores: float | None) -> Iterator[None]:
    """In the image: the servers with these configurations get ``cores``; no limit when None. Raises RuntimeError."""
    if cores is None:
        yield
        return
    asked, granted = _asked(files), _granted(files)
    granted.unlink(missing_ok=True)
    asked.write_text(json.dumps({"cores": cores, "configs": [str(path) for path in configs]}), encoding="utf-8")
    deadline = time.monotonic() + GRANT_SECONDS
    try:
        while not granted.exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"no CPU limit after {GRANT_SECONDS:g} s: the host grants it, and needs root")
            time.sleep(LOOK_SECONDS)
        yield
    finally:
        asked.unlink()


@contextmanager
def granting(files: Files) -> Iterator[None]:
    """On the host: grants what is asked for as long as it is asked for."""
    stop = threading.Event()
    _asked(files).unlink(missing_ok=True)
    thread = threading.Thread(target=_grant, args=(files, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _asked(files: Files) -> Path:
    return files.folder / "limit-asked.json"


def _granted(files: Files) -> Path:
    return files.folder / "limit-granted"


def _grant(files: Files, stop: threading.Event) -> None:
    asked, granted, group = _asked(files), _granted(files), None
    while not stop.wait(LOOK_SECONDS):
        if group is None and asked.exists():
            wanted = json.loads(asked.read_text(encoding="utf-8"))
            group = _group(float(wanted["cores"]))
            for pid in processes_with(wanted["configs"]):
                (group / "cgroup.procs").write_text(str(pid))
            granted.touch()
        elif group is not None and not asked.exists() and _removed(group):
            group = None
    if group is not None:
        _removed(group)


def _group(cores: float) -> Path:
    """A new cgroup with this quota, of version 2 where that has the CPU, else of version 1."""
    quota = int(cores * PERIOD_MICROSECONDS)
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="ascii").splitlines()]
    for _, place, kind, options, *_ in mounts:
        root = Path(place)
        if kind == "cgroup" and "cpu" in options.split(","):
            group = _made(root)
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
            return group
        if kind == "cgroup2" and "cpu" in (root / "cgroup.subtree_control").read_text(encoding="ascii").split():
            group = _made(root)
            (group / "cpu.max").write_text(f"{quota} {PERIOD_MICROSECONDS}")
            return group
    raise RuntimeError("no cgroup hierarchy has the CPU controller")


def _made(root: Path) -> Path:
    group = root / GROUP
    group.mkdir(exist_ok=True)
    return group


def _removed(group: Path) -> bool:
    """Whether it could be: not while a process is in it."""
    try:
        group.rmdir()
    except OSError:
        return False
    return True


def processes_with(arguments: Sequence[str]) -> list[int]:
    """Those that have one of these in their command line."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                line = (path / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it ended meanwhile
                continue
            if any(argument.encode() in line for argument in arguments):
                found.append(int(path.name))
    return found
