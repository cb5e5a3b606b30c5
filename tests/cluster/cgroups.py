"""The cgroup of one cluster, in every hierarchy that is mounted (version 1, version 2, or both)."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.cluster.paths import ClusterError

REMOVAL_SECONDS = 15


def _hierarchies() -> list[Path]:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(fields[1]) for fields in mounts if fields[2] in {"cgroup", "cgroup2"}]


def _groups(cgroup: str) -> list[Path]:
    candidates = [mount / cgroup.strip("/") for mount in _hierarchies()]
    return [path for path in candidates if path.is_dir()]


def create(cgroup: str) -> None:
    """Make the cgroup in each hierarchy. A new cpuset of version 1 is empty and takes its parent's values."""
    for mount in _hierarchies():
        group = mount / cgroup.strip("/")
        group.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            own = group / name
            if own.exists() and (mount / name).exists() and not own.read_text().strip():
                own.write_text((mount / name).read_text())


def remove(cgroup: str) -> None:
    """End what still runs in the cgroup and remove it from each hierarchy; quiet when it isn't there.

    Raises ClusterError when a process in it cannot be ended.
    """
    deadline = time.monotonic() + REMOVAL_SECONDS
    while groups := _groups(cgroup):
        for group in groups:
            _remove_tree(group)
        if not _groups(cgroup):
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"cgroups could not be removed: {', '.join(str(group) for group in groups)}")
        time.sleep(0.1)


def _remove_tree(group: Path) -> None:
    """One attempt, leaves first; what is busy is killed and left for the next attempt."""
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            Path(folder).rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            _kill_members(Path(folder))


def _kill_members(group: Path) -> None:
    try:
        members = (group / "cgroup.procs").read_text().split()
    except OSError:  # gone meanwhile
        return
    for member in members:
        try:
            os.kill(int(member), signal.SIGKILL)
        except ProcessLookupError:
            continue
