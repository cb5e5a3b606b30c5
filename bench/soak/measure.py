"""The soak itself, inside the image: `python -m bench.soak.measure --out FOLDER --minutes M [--rate R]`.

Every request's text is new, so the cache fills up and goes on replacing; lengths are mixed.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.serve.client import Client
from bench.serve.machine import resident_bytes
from bench.serve.measure import CONCURRENCY
from bench.serve.servers import Place, Server, start_ours
from bench.serve.texts import Requests, make_corpus
from bench.serve.variant import write_variant
from bench.soak.verdict import judge
from cycle_wire.parts import Precision

PERIODS = 20
LONGEST_PERIOD_SECONDS = 60.0
PATIENCE_SECONDS = 5.0  # of the client: a soak is no test of latency
CAPACITY_SECONDS = 20.0
LOAD_SHARE = 0.55  # of the capacity: an overloaded server is another experiment
TABLE_ROWS = 12
MIB = 2**20


@dataclass(frozen=True)
class Soak:
    """Requests per second that a closed loop was answered (None: not measured) and that were sent; a row per period."""

    capacity: float | None
    rate: float
    rows: list[dict[str, Any]]


class Texts:
    """Requests with texts that were not sent before."""

    def __init__(self, mixed: Requests) -> None:
        self._mixed = mixed
        self._made = 0

    def take(self, count: int) -> Requests:
        first, texts = self._made, self._mixed.texts
        self._made += count
        return Requests.of([f"{first + i} {texts[i % len(texts)]}" for i in range(count)])


async def soak(servers: Sequence[Server], mixed: Requests, *, minutes: float, rate: float | None) -> Soak:
    server, with_sidecar = servers[0], servers[1]
    await with_sidecar.wait_until_ready(mixed.bodies[0])
    client, texts = Client(with_sidecar.port), Texts(mixed)
    capacity = None
    if rate is None:
        many = texts.take(int(CAPACITY_SECONDS * 1000))
        capacity = await client.saturate(many, concurrency=CONCURRENCY, seconds=CAPACITY_SECONDS)
        rate = LOAD_SHARE * capacity
        print(f"capacity {capacity:.1f} requests/s, so the rate is {rate:.1f}", flush=True)
    started, sidecar_pid = time.monotonic(), with_sidecar.groups[1].pid
    rows: list[dict[str, Any]] = []
    period = min(minutes * 60 / PERIODS, LONGEST_PERIOD_SECONDS)
    while time.monotonic() - started < minutes * 60:
        latencies = await client.open_loop(
            texts.take(int(2 * rate * period) + 50),
            rate=rate,
            seconds=period,
            seed=len(rows),
            budget_seconds=PATIENCE_SECONDS,
        )
        rows.append(
            {
                "seconds": round(time.monotonic() - started, 1),
                "serverMb": round(resident_bytes(server.pids()) / MIB, 1),
                "sidecarMb": round(resident_bytes([sidecar_pid]) / MIB, 1),
                "requests": len(latencies.seconds),
                "outcomes": dict(latencies.outcomes),
                "p99Ms": round(latencies.quantile(0.99) * 1000, 1),
            }
        )
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    return Soak(capacity, rate, rows)


def table(done: Soak) -> str:
    """At most TABLE_ROWS of the rows, evenly chosen, the last among them."""
    step = -(-len(done.rows) // TABLE_ROWS)
    lines = ["| minute | server, MiB | sidecar, MiB | p99, ms |", "| --- | --- | --- | --- |"]
    for row in done.rows[::-1][::step][::-1]:
        cells = (f"{row['seconds'] / 60:.0f}", row["serverMb"], row["sidecarMb"], row["p99Ms"])
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    outcomes = sum((Counter(row["outcomes"]) for row in done.rows), Counter[str]())
    said = ", ".join(f"{name} {count:,}" for name, count in outcomes.most_common())
    capacity = f", capacity {done.capacity:.1f}" if done.capacity else ""
    return "\n".join([*lines, "", f"{done.rate:.1f} requests per second{capacity}; answers: {said}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--rate", type=float)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "variant")
        digest = write_variant(folder, precision=Precision.FLOAT32)
        place = Place(folder, digest, "engine", Path(scratch), server_core=cores[0], client_core=cores[-1])
        mixed = make_corpus(folder / "tokenizer.json").mixed
        servers = start_ours(place, cache_bytes=4 * MIB)
        os.sched_setaffinity(0, {place.client_core})
        try:
            done = asyncio.run(soak(servers, mixed, minutes=options.minutes, rate=options.rate))
        finally:
            for server in servers:
                server.kill()
    seconds = [row["seconds"] for row in done.rows]
    verdicts = {name: judge(seconds, [row[f"{name}Mb"] for row in done.rows]) for name in ("server", "sidecar")}
    told = {**asdict(done), "verdicts": {name: asdict(verdict) for name, verdict in verdicts.items()}}
    (options.out / "soak.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(f"\n{table(done)}\n")
    for name, verdict in verdicts.items():
        print(f"{name}: {verdict}", flush=True)


if __name__ == "__main__":
    main()
