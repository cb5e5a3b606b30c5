"""One operator on an API server of its own: idle jobs, one creation after the other, bursts."""

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx
import numpy as np

from bench.jobs.meters import Reading, settled
from bench.jobs.subjects import Subject
from bench.jobs.watch import Watcher
from tests.api.kubeapi import connect, ssl_context
from tests.cluster.choose import start_api_only

TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Row:
    operator: str
    n: int
    steady_p99_ms: float
    p50_ms: float
    p99_ms: float
    total_seconds: float
    operator_rss_mb: float
    rss_mb_per_thousand_objects: float
    cpu_ms_per_job: float
    writes_per_job: float


def measure(subject: Subject, *, idle: int, steady: int, bursts: Sequence[int]) -> list[Row]:
    """Starts an API server and the operator, and stops both."""
    cluster = start_api_only()
    try:
        with (
            connect(cluster.kubeconfig) as client,
            tempfile.TemporaryDirectory() as folder,
            subject.running(client, cluster.kubeconfig, Path(folder)) as pid,
            _without_other_controllers(),
        ):
            return asyncio.run(_measure(subject, client, cluster.kubeconfig, pid, idle, steady, bursts))
    finally:
        cluster.stop()


async def _measure(
    subject: Subject, client: httpx.Client, kubeconfig: Path, pid: int, idle: int, steady: int, bursts: Sequence[int]
) -> list[Row]:
    base = settled(client, pid)
    connector = aiohttp.TCPConnector(ssl=ssl_context(kubeconfig), limit=64)
    async with (
        aiohttp.ClientSession(str(client.base_url), connector=connector, timeout=aiohttp.ClientTimeout()) as session,
        Watcher(session, subject) as watcher,
    ):
        _namespace(client, "bench")
        await _create(watcher, [f"idle-{i:05d}" for i in range(idle)], suspend=True)
        resident = (await asyncio.to_thread(settled, client, pid)).resident_mb
        per_thousand = (resident - base.resident_mb) / max(idle, 1) * 1000
        _say(subject, f"{idle} idle jobs: {resident:.0f} MB, {per_thousand:.1f} MB per 1,000 above the base")
        steady_ms = await _one_by_one(watcher, steady)
        _say(subject, f"{steady} one by one: p50 {_of(steady_ms, 50):.0f} ms, p99 {_of(steady_ms, 99):.0f} ms")
        rows = []
        for n in bursts:
            before = await asyncio.to_thread(settled, client, pid)
            times, total = await _burst(watcher, n)
            after = await asyncio.to_thread(settled, client, pid)
            rows.append(_row(subject, n, steady_ms, times, total, before, after, per_thousand))
            _say(subject, f"burst of {n}: {total:.2f} s")
        return rows


def _row(
    subject: Subject, n: int, steady_ms: Sequence[float], times_ms: Sequence[float], total_seconds: float,
    before: Reading, after: Reading, per_thousand: float,
) -> Row:  # fmt: skip
    return Row(
        operator=subject.name,
        n=n,
        steady_p99_ms=_of(steady_ms, 99),
        p50_ms=_of(times_ms, 50),
        p99_ms=_of(times_ms, 99),
        total_seconds=total_seconds,
        operator_rss_mb=after.resident_mb,
        rss_mb_per_thousand_objects=per_thousand,
        cpu_ms_per_job=(after.cpu_seconds - before.cpu_seconds) * 1000 / n,
        writes_per_job=(after.writes - before.writes - n) / n,  # the jobs themselves are the user's
    )


async def _create(watcher: Watcher, names: Sequence[str], *, suspend: bool) -> list[tuple[str, float]]:
    return list(await asyncio.gather(*(watcher.create("bench", name, suspend=suspend) for name in names)))


async def _one_by_one(watcher: Watcher, count: int) -> list[float]:
    """Milliseconds from the creation of one job to its last child; the next is created after that."""
    times = []
    for i in range(count):
        uid, began = await watcher.create("bench", f"steady-{i:05d}")
        (complete,) = await watcher.complete([uid], timeout_seconds=TIMEOUT_SECONDS)
        times.append((complete - began) * 1000)
        await asyncio.sleep(0.05)  # its status
    return times


async def _burst(watcher: Watcher, count: int) -> tuple[list[float], float]:
    """(milliseconds of each, seconds from the first creation to the last child)."""
    made = await _create(watcher, [f"burst-{count:04d}-{i:05d}" for i in range(count)], suspend=False)
    complete = await watcher.complete([uid for uid, _ in made], timeout_seconds=TIMEOUT_SECONDS)
    times = [(end - began) * 1000 for (_, began), end in zip(made, complete, strict=True)]
    return times, max(complete) - min(began for _, began in made)


@contextmanager
def _without_other_controllers() -> Iterator[None]:
    """The controller manager of this process' API server stands still: Jobs make no pods, for either operator."""
    found = [pid for pid in _descendants(os.getpid()) if _program(pid) == "kube-controller"]
    for pid in found:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in found:
            os.kill(pid, signal.SIGCONT)


def _program(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # it has ended
    tree = {root}
    while more := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return sorted(tree - {root})


def _namespace(client: httpx.Client, name: str) -> None:
    client.post("/api/v1/namespaces", json={"metadata": {"name": name}}).raise_for_status()
    # Pods need it, and the controller that makes it stands still.
    account = {"metadata": {"name": "default"}}
    client.post(f"/api/v1/namespaces/{name}/serviceaccounts", json=account).raise_for_status()
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    for claim in ("models", "data"):
        body = {"metadata": {"name": claim}, "spec": spec}
        client.post(f"/api/v1/namespaces/{name}/persistentvolumeclaims", json=body).raise_for_status()


def _of(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else float("nan")


def _say(subject: Subject, text: str) -> None:
    print(f"  {subject.name:14}{text}", flush=True)
