"""The measurement itself, inside the image: `python -m bench.serve.measure --out FOLDER`. See bench.serve.__main__.

All servers run from the start, on one core, and all but one are stopped (SIGSTOP). They take turns in the order
A B C, then C B A, so that a slow drift of the machine falls on all alike; each turn gives every server the same
requests at the same multiples of one sequence of Poisson arrivals. serve.json is written after every measurement; the
phase p99 takes each row's rate from there, so that the phases may be calls of their own.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.serve.client import Client, Latencies, quantile
from bench.serve.machine import Disturbance, on_core, resident_bytes
from bench.serve.rows import DIRECT, Row, read_json, table, to_records, verdict, write_json
from bench.serve.search import highest_rate
from bench.serve.servers import MAXIMUM_BATCH_SIZE, Place, Server, start_ours, start_peers
from bench.serve.texts import Corpus, make_corpus
from bench.serve.variant import write_variant
from cycle_wire.parts import Precision

CONCURRENCY = 2 * MAXIMUM_BATCH_SIZE  # a batch computes while the next one comes in
BUDGET_SECONDS = 0.080  # that of examples/cycleservice.yaml
PERCENTILE = 0.99
LOW_RATE = 20.0
OUR_MODEL = "engine"  # bench.serve.peers.model
PHASES = ("capacity", "p99")


@dataclass(frozen=True)
class Durations:
    """Seconds of each measurement, and how often."""

    passes: int = 2
    saturate: float = 2.5
    probe: float = 2.0
    probes: int = 4
    low: float = 2.5
    at_80: float = 5.0

    def scaled(self, factor: float) -> "Durations":
        """For a look at whether everything runs: one pass."""
        return replace(
            self,
            passes=1,
            probes=2,
            **{name: factor * getattr(self, name) for name in ("saturate", "probe", "low", "at_80")},
        )


class Direct:
    """A process that calls the model without a server."""

    def __init__(self, place: Place, *, kind: str) -> None:
        self.name = DIRECT if kind == OUR_MODEL else f"{DIRECT}, {kind}"
        command = [sys.executable, "-m", "bench.serve.direct", "--folder", str(place.folder), "--kind", kind]
        with on_core(place.server_core):
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _call(self, **command: object) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def measure(self, row: Row, corpus: Corpus, durations: Durations, *, seed: int) -> None:
        identical, short = corpus.identical.texts, corpus.short.texts
        row.identical.append(
            self._call(task="saturate", texts=identical, batch=MAXIMUM_BATCH_SIZE, seconds=durations.saturate)
        )
        low = self._call(task="paced", texts=short, rate=LOW_RATE, seconds=durations.low, seed=seed)
        row.low_p50.append(quantile(low, 0.5))
        print(f"{time.strftime('%T')} {self.name}: identical {row.identical[-1]:.1f}/s", flush=True)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class Bench:
    """``rows`` may hold what an earlier call measured. ``until``: time.monotonic() after which nothing new begins."""

    def __init__(
        self,
        servers: Sequence[Server],
        directs: Sequence[Direct],
        corpus: Corpus,
        durations: Durations,
        *,
        cores: set[int],
        rows: Sequence[Row],
        out: Path,
        until: float,
    ) -> None:
        self._cores = cores
        self._servers = list(servers)
        self._directs = directs
        self._corpus = corpus
        self._durations = durations
        self._rows = {row.server: row for row in rows}
        for direct in directs:
            self._rows.setdefault(direct.name, Row(direct.name, "-"))
        for server in servers:
            self._rows.setdefault(server.name, Row(server.name, server.hops))
        self._out = out
        self._until = until

    @property
    def rows(self) -> list[Row]:
        return list(self._rows.values())

    async def run(self, phases: Sequence[str]) -> None:
        for row in self.rows:
            row.failures.clear()
            if "p99" in phases:
                row.at_80_p99.clear()
                row.at_common_80_p99.clear()
        await self._wait_until_ready()
        if "capacity" in phases:
            for number, order in self._passes():
                for direct in self._directs:
                    await self._guarded(direct.name, partial(self._direct, direct, number))
                for server in order:
                    await self._guarded(server.name, partial(self._capacity, server, number))
        if "p99" in phases:
            for number, order in self._passes():
                for server in order:
                    await self._guarded(server.name, partial(self._at_80, server, 100 + number))

    async def _wait_until_ready(self) -> None:
        """One that doesn't come up is left out, and its row says so."""
        for server in list(self._servers):
            try:
                await server.wait_until_ready(self._corpus.short.bodies[0])
            except RuntimeError as error:
                self._rows[server.name].failures.append(str(error))
                self._servers.remove(server)
        for server in self._servers:
            server.pause()

    def _passes(self) -> Iterator[tuple[int, Sequence[Server]]]:
        for number in range(self._durations.passes):
            yield number, self._servers if number % 2 == 0 else self._servers[::-1]

    async def _guarded(self, name: str, measure: Callable[[Row], Awaitable[None]]) -> None:
        """What fails costs this measurement only."""
        row = self._rows[name]
        if time.monotonic() > self._until:
            row.failures.append("the time was over")
            return
        try:
            await measure(row)
        except Exception as error:  # noqa: BLE001 - told in the row
            row.failures.append(f"{type(error).__name__}: {error}")
            print(f"{time.strftime('%T')} {name} FAILED: {error}", flush=True)
        write_json(self._out, self.rows)

    async def _direct(self, direct: Direct, seed: int, row: Row) -> None:
        direct.measure(row, self._corpus, self._durations, seed=seed)

    async def _capacity(self, server: Server, seed: int, row: Row) -> None:
        with self._running(server) as client:
            seconds = self._durations.saturate
            row.identical.append(
                await client.saturate(self._corpus.identical, concurrency=CONCURRENCY, seconds=seconds)
            )
            saturated = await client.saturate(self._corpus.mixed, concurrency=CONCURRENCY, seconds=seconds / 2)

            async def holds(rate: float) -> bool:
                latencies = await self._open_loop(client, rate=rate, seconds=self._durations.probe, seed=seed)
                return latencies.share_within(BUDGET_SECONDS) >= PERCENTILE

            row.mixed.append(await highest_rate(holds, saturated=saturated, steps=self._durations.probes))
            low = await client.open_loop(
                self._corpus.short, rate=LOW_RATE, seconds=self._durations.low, seed=seed, budget_seconds=1.0
            )
            row.low_p50.append(low.quantile(0.5))
            row.resident_bytes = max(row.resident_bytes, resident_bytes(server.pids()))
        print(
            f"{time.strftime('%T')} {server.name}: identical {row.identical[-1]:.1f}/s, saturated {saturated:.1f}/s,"
            f" mixed {row.mixed[-1]:.1f}/s, low p50 {low.quantile(0.5) * 1000:.2f} ms",
            flush=True,
        )

    async def _at_80(self, server: Server, seed: int, row: Row) -> None:
        common = min((other.capacity for other in self.rows if other.capacity), default=0.0)
        if not common:
            raise RuntimeError("no row has a rate of mixed requests: measure the phase capacity first")
        with self._running(server) as client:
            await client.saturate(self._corpus.mixed, concurrency=CONCURRENCY, seconds=0.5)
            seconds = self._durations.at_80
            if row.capacity:  # 0: it held no rate that was tried
                latencies = await self._open_loop(client, rate=0.8 * row.capacity, seconds=seconds, seed=seed)
                row.at_80_p99.append(latencies.quantile(PERCENTILE))
            latencies = await self._open_loop(client, rate=0.8 * common, seconds=seconds, seed=seed)
            row.at_common_80_p99.append(latencies.quantile(PERCENTILE))
        p99 = [f"{times[-1] * 1000:.1f}" for times in (row.at_80_p99, row.at_common_80_p99) if times]
        print(f"{time.strftime('%T')} {server.name}: p99 at 80 % {' / '.join(p99)} ms", flush=True)

    @contextmanager
    def _running(self, server: Server) -> Iterator[Client]:
        """Lets this server alone run, and notes what else ran on the two cores."""
        server.resume()
        disturbance = Disturbance(cores=self._cores, pids=server.pids())
        try:
            yield Client(server.port)
            self._rows[server.name].others.append(disturbance.share())
        finally:
            server.pause()

    async def _open_loop(self, client: Client, *, rate: float, seconds: float, seed: int) -> Latencies:
        return await client.open_loop(
            self._corpus.mixed, rate=rate, seconds=seconds, seed=seed, budget_seconds=BUDGET_SECONDS
        )


def measure(options: argparse.Namespace, scratch: Path) -> list[Row]:
    until = time.monotonic() + 60 * options.minutes
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("bench/serve needs two cores: one for the servers, one for the client")
    folder, out = scratch / "variant", options.out / "serve.json"
    digest = write_variant(folder, precision=Precision(options.precision))
    place = Place(folder, digest, options.model, scratch, server_core=cores[0], client_core=cores[-1])
    corpus = make_corpus(folder / "tokenizer.json")
    kinds = sorted({OUR_MODEL, options.model}) if "capacity" in options.phases else []
    directs = [Direct(place, kind=kind) for kind in kinds]
    servers = [*start_ours(place), *start_peers(place)]
    os.sched_setaffinity(0, {place.client_core})
    bench = Bench(
        servers,
        directs,
        corpus,
        Durations() if options.scale == 1 else Durations().scaled(options.scale),
        cores={place.server_core, place.client_core},
        rows=[] if "capacity" in options.phases else read_json(out),
        out=out,
        until=until,
    )
    try:
        asyncio.run(bench.run(options.phases))
    finally:
        for direct in directs:
            direct.stop()
        for server in servers:
            server.kill()
    return bench.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--phases", nargs="+", choices=PHASES, required=True)
    parser.add_argument("--scale", type=float, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--model", choices=(OUR_MODEL, "transformers"), required=True)
    parser.add_argument("--precision", choices=[precision.value for precision in Precision], required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        records = to_records(measure(options, Path(scratch)))
    print(f"\n{table(records)}\n\n{verdict(records)}", flush=True)


if __name__ == "__main__":
    main()
