"""The soak itself, inside the image: `python -m bench.soak.measure --out FOLDER --minutes M --rate R`.

Every request's text is new, so the cache fills up and goes on replacing; lengths are mixed. Memory that still grows in
the second half of the run is a leak: the last line says by how much.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.serve.client import Client
from bench.serve.machine import resident_bytes
from bench.serve.servers import Place, Server, start_ours
from bench.serve.texts import Requests, make_corpus
from bench.serve.variant import write_variant
from cycle_wire.parts import Precision

PERIODS = 20
LONGEST_PERIOD_SECONDS = 60.0
PATIENCE_SECONDS = 5.0  # of the client: a soak is no test of latency
MIB = 2**20


def numbered(requests: Requests, *, first: int, count: int) -> Requests:
    """Texts that were not sent before."""
    texts = [f"{first + i} {requests.texts[i % len(requests.texts)]}" for i in range(count)]
    return Requests.of(texts)


async def soak(servers: list[Server], mixed: Requests, *, minutes: float, rate: float) -> list[dict[str, Any]]:
    server, with_sidecar = servers[0], servers[1]
    await with_sidecar.wait_until_ready(mixed.bodies[0])
    sidecar_pid = with_sidecar.groups[1].pid
    client, started, sent = Client(with_sidecar.port), time.monotonic(), 0
    rows: list[dict[str, Any]] = []
    period = min(minutes * 60 / PERIODS, LONGEST_PERIOD_SECONDS)
    while time.monotonic() - started < minutes * 60:
        requests = numbered(mixed, first=sent, count=int(2 * rate * period) + 50)
        latencies = await client.open_loop(
            requests, rate=rate, seconds=period, seed=len(rows), budget_seconds=PATIENCE_SECONDS
        )
        sent += len(latencies.seconds)
        rows.append(
            {
                "seconds": round(time.monotonic() - started, 1),
                "serverMb": round(resident_bytes(server.pids()) / MIB, 1),
                "sidecarMb": round(resident_bytes([sidecar_pid]) / MIB, 1),
                "requests": sent,
                "errors": sum(seconds == float("inf") for seconds in latencies.seconds),
                "p99Ms": round(latencies.quantile(0.99) * 1000, 1),
            }
        )
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    return rows


def growth(rows: list[dict[str, Any]], key: str) -> float:
    """Median of the last quarter less median of the third quarter, MiB."""
    quarter = max(len(rows) // 4, 1)
    last, before = (median(row[key] for row in part) for part in (rows[-quarter:], rows[-2 * quarter : -quarter]))
    return float(last - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--rate", type=float, required=True)
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
            rows = asyncio.run(soak(servers, mixed, minutes=options.minutes, rate=options.rate))
        finally:
            for server in servers:
                server.kill()
    (options.out / "soak.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    grown = {key: growth(rows, key) for key in ("serverMb", "sidecarMb")} if len(rows) >= 4 else {}
    print("growth in the last quarter, MiB: " + ", ".join(f"{key} {value:+.1f}" for key, value in grown.items()))


if __name__ == "__main__":
    main()
