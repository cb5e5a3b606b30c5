"""What Linux's /proc says of processes and cores."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
IDLE, IOWAIT = 3, 4  # columns of /proc/stat


def processes_of(groups: set[int]) -> list[int]:
    """Of these process groups, now."""
    return [
        pid for path in Path("/proc").iterdir() if path.name.isdigit() and _group_of(pid := int(path.name)) in groups
    ]


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def resident_bytes(pids: Iterable[int]) -> int:
    """Of all these processes; a page that several of them share counts once (PSS)."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started here stays on ``core``."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Disturbance:
    """How much of two cores others took: everything that ran on them less these processes and this one."""

    def __init__(self, *, cores: set[int], pids: Iterable[int]) -> None:
        self._cores = cores
        self._pids = [*pids, os.getpid()]
        self._before = self._others_seconds()
        self._since = time.monotonic()

    def share(self) -> float:
        """Since this object was made, of one core's time; may be a little below 0, for the kernel counts in ticks."""
        return (self._others_seconds() - self._before) / (time.monotonic() - self._since)

    def _others_seconds(self) -> float:
        lines = (line.split() for line in Path("/proc/stat").read_text(encoding="ascii").splitlines())
        names = {f"cpu{core}" for core in self._cores}
        busy = sum(_busy_ticks(fields[1:]) for fields in lines if fields[0] in names)
        return (busy - sum(_ticks_of(pid) for pid in self._pids)) / TICKS_PER_SECOND


def _busy_ticks(columns: list[str]) -> int:
    """user, nice, system, irq, softirq and steal."""
    return sum(int(value) for i, value in enumerate(columns[:8]) if i not in (IDLE, IOWAIT))


def _ticks_of(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
