"""What an operator costs: CPU time and memory of its process, and writes that the API server counted."""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

WRITES = ("POST", "PUT", "PATCH", "DELETE", "APPLY")
# Not of a job: leader election, and asking who may do what.
NOT_OF_JOBS = ("leases", "tokenreviews", "subjectaccessreviews", "selfsubjectaccessreviews", "serviceaccounts")
_LINE = re.compile(r"^apiserver_request_total\{(?P<labels>[^}]*)\} (?P<count>\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Reading:
    """``writes``: of everybody, by the API server's own count."""

    cpu_seconds: float
    resident_mb: float
    writes: int


def read(client: httpx.Client, pid: int) -> Reading:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Reading(cpu_seconds=cpu, resident_mb=pages * os.sysconf("SC_PAGE_SIZE") / 1e6, writes=_writes(client))


def settled(client: httpx.Client, pid: int, *, quiet_seconds: float = 2.0) -> Reading:
    """A reading once nothing was written for a while: status writes come after the children."""
    before = read(client, pid)
    changed = time.monotonic()
    while time.monotonic() - changed < quiet_seconds:
        time.sleep(0.25)
        now = read(client, pid)
        if now.writes != before.writes:
            before, changed = now, time.monotonic()
    return read(client, pid)


def _writes(client: httpx.Client) -> int:
    total = 0.0
    for found in _LINE.finditer(client.get("/metrics").raise_for_status().text):
        labels = dict(_LABEL.findall(found["labels"]))
        if labels.get("verb") in WRITES and labels.get("resource") not in NOT_OF_JOBS:
            total += float(found["count"])
    return int(total)
