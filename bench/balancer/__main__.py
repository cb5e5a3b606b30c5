"""Which way of balancing answers soonest when each pod has a cache: one command, `make bench-balancer`, 3 minutes.

The real HAProxy with the operator's own configuration, four real cache sidecars, and behind each a server with a stated
service time. The same Poisson arrivals and the same zipf-popular keys for each algorithm, in turns, each time first
unmeasured until the caches hold what they will. A row's T is from a request's intended moment to its answer at the
client; the pods have the first core, the client and HAProxy the last. "other load": cores' time that other processes
took meanwhile; above 0.1 the times say little.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession

from bench.balancer.haproxy import configuration
from bench.balancer.load import Load, Seen, run
from bench.serve.machine import Disturbance, on_core
from cycleops.api.cycleservice import BalancingAlgorithm

OUTPUT = Path("out/bench/balancer.json")
HTTP_PORT, ADMIN_PORT, POD_PORT, UPSTREAM_PORT = 18_080, 18_405, 18_081, 18_082
ADDRESSES = [f"127.0.4.{index}" for index in range(1, 5)]
URL = f"http://127.0.0.1:{HTTP_PORT}/v2/models/m/infer"
WARM_UP_SEED = 1000  # arrivals and keys that no run has


@contextmanager
def process(command: list[str], *, core: int) -> "Iterator[subprocess.Popen[bytes]]":
    with on_core(core):
        started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


async def wait_until_up() -> None:
    async with ClientSession() as session:
        for _ in range(200):
            try:
                async with session.get(f"http://127.0.0.1:{ADMIN_PORT}/metrics") as response:
                    lines = (await response.text()).splitlines()
            except ClientError:
                lines = []
            up = [line for line in lines if line.startswith('haproxy_server_check_status{proxy="pods"')]
            if sum(line.endswith(" 1") and "L7OK" in line for line in up) == len(ADDRESSES):
                return
            await asyncio.sleep(0.1)
    raise RuntimeError("the pods did not come up")


def measure(algorithm: BalancingAlgorithm, options: argparse.Namespace, cores: list[int], *, seed: int) -> Seen:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        numbers = [str(number) for number in (POD_PORT, UPSTREAM_PORT, options.service, options.cache)]
        command = [sys.executable, "-m", "bench.balancer.pod", *numbers, *ADDRESSES]
        pods = stack.enter_context(process(command, core=cores[0]))
        servers = [f"{address}:{POD_PORT}" for address in ADDRESSES]
        file = configuration(algorithm, Path(folder), pods=servers, http_port=HTTP_PORT, admin_port=ADMIN_PORT)
        balancer = stack.enter_context(process(["haproxy", "-db", "-f", str(file)], core=cores[-1]))
        load = Load(
            url=URL, rate=options.rate, seconds=options.seconds, keys=options.keys, exponent=options.zipf, seed=seed
        )
        return asyncio.run(_measured(load, options.warm_up, cores={cores[0], cores[-1]}, pids=[pods.pid, balancer.pid]))


async def _measured(load: Load, warm_up_seconds: float, *, cores: set[int], pids: list[int]) -> Seen:
    await wait_until_up()
    await run(replace(load, seconds=warm_up_seconds, seed=WARM_UP_SEED))
    disturbance = Disturbance(cores=cores, pids=pids)
    seen = await run(load)
    seen.other_load = disturbance.share()
    return seen


def row(algorithm: BalancingAlgorithm, runs: list[Seen]) -> dict[str, Any]:
    latencies = sorted(latency for seen in runs for latency in seen.latencies)
    outcomes = sum((seen.outcomes for seen in runs), Counter[str]())
    requests = outcomes.total()

    def milliseconds(values: list[float], share: float) -> float:
        ordered = sorted(values)
        return round(1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)], 3)

    hops = [hop for seen in runs for hop in seen.hops]
    return {
        "algorithm": algorithm.value,
        "requests": requests,
        "errors": sum(seen.errors for seen in runs),
        "hitRatio": round((outcomes["hit"] + outcomes["coalesced"]) / requests, 4),
        "p50Ms": milliseconds(latencies, 0.5),
        "p99Ms": milliseconds(latencies, 0.99),
        "p99MsOfEachRun": [milliseconds(seen.latencies, 0.99) for seen in runs],
        "otherLoad": round(max(seen.other_load for seen in runs), 2),
        "hopP50Ms": milliseconds(hops, 0.5),
        "hopP99Ms": milliseconds(hops, 0.99),
        "outsideP50Ms": round(1000 * statistics.median(value for seen in runs for value in seen.outside), 3),
        "mostUncoveredShare": round(max(value for seen in runs for value in seen.uncovered), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=250.0, help="requests per second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run")
    parser.add_argument("--warm-up", type=float, default=6.0, help="seconds before each run, to fill the caches")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--service", type=float, default=8.0, help="milliseconds of a miss, one at a time per pod")
    parser.add_argument("--keys", type=int, default=2000)
    parser.add_argument("--zipf", type=float, default=0.8, help="exponent of the keys' popularity")
    parser.add_argument("--cache", type=int, default=150_000, help="bytes of each pod's cache")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    runs: dict[BalancingAlgorithm, list[Seen]] = {algorithm: [] for algorithm in BalancingAlgorithm}
    for turn in range(options.rounds):
        for algorithm, seen in runs.items():
            seen.append(measure(algorithm, options, cores, seed=turn))
            print(f"round {turn + 1} of {options.rounds}: {algorithm.value} done", file=sys.stderr)
    rows = [row(algorithm, seen) for algorithm, seen in runs.items()]
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(table(rows, options))


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    title = (
        f"{options.rate:g} requests/s, {len(ADDRESSES)} pods, {options.service:g} ms per miss, {options.keys} keys, "
        f"zipf {options.zipf:g}, {options.cache} bytes of cache per pod, "
        f"{options.rounds} x {options.seconds:g} s after {options.warm_up:g} s"
    )
    names = (
        "algorithm",
        "requests",
        "errors",
        "hitRatio",
        "p50Ms",
        "p99Ms",
        "p99MsOfEachRun",
        "hopP50Ms",
        "hopP99Ms",
        "otherLoad",
    )
    lines = ["| " + " | ".join(names) + " |", "| --- " * len(names) + "|"]
    lines += ["| " + " | ".join(str(r[name]) for name in names) + " |" for r in rows]
    return "\n".join([title, "", *lines])


if __name__ == "__main__":
    main()
