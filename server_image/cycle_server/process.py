"""Facts about processes from Linux's /proc."""

import ctypes
import os
import time
from pathlib import Path

COMPUTE_THREAD = "compute"
_PR_SET_NAME = 15


def seconds_since_start() -> float:
    """Of this process, by the kernel's record: the interpreter's own start counts too."""
    after_name = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def peak_resident_bytes(pid: int) -> int:
    """Highest resident set of the process so far, and what its descendants hold now; shared pages count once (PSS)."""
    own = _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM")
    return 1024 * (own + sum(_kilobytes(Path(f"/proc/{child}/smaps_rollup"), "Pss") for child in descendants(pid)))


def descendants(pid: int) -> set[int]:
    """Its children, theirs, and so on, now."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text(encoding="ascii").rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    found, more = set[int](), {pid}
    while more:
        found |= more
        more = {child for child, parent in parents.items() if parent in found} - found
    return found - {pid}


def _kilobytes(path: Path, name: str) -> int:
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise OSError(f"{path} has no {name}: the process has ended")


def name_compute_thread() -> None:
    """Call in the thread that computes: the kernel then knows it, and the helpers that it starts, by that name."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, COMPUTE_THREAD.encode())


def cpu_seconds_beside_computing(pid: int) -> float:
    """CPU time so far of the process's threads that don't compute, those that have ended left out. To the nanosecond,
    where /proc/PID/stat counts in hundredths of a second.
    """
    nanoseconds = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        if (thread / "comm").read_text(encoding="utf-8").strip() != COMPUTE_THREAD:
            nanoseconds += int((thread / "schedstat").read_text(encoding="ascii").split()[0])
    return nanoseconds / 1e9


def processor_name() -> str:
    """As the machine gives it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine
