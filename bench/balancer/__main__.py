"""Which way of balancing answers soonest when each pod has a cache: one command, `make bench-balancer`.

The real HAProxy with the operator's own configuration, four real cache sidecars, and behind each a server with a stated
service time. The same Poisson arrivals and the same zipf-popular keys for each algorithm, in turns, each time with
empty caches. A row's T is from a request's intended moment to its answer at the client; the client, HAProxy and the
pods share this machine's cores, so times are to be compared within one run only.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession

from bench.balancer.haproxy import configuration
from bench.balancer.load import Load, Seen, run
from cycleops.api.cycleservice import BalancingAlgorithm

OUTPUT = Path("out/bench/balancer.json")
HTTP_PORT, ADMIN_PORT, POD_PORT, UPSTREAM_PORT = 18_080, 18_405, 18_081, 18_082
ADDRESSES = [f"127.0.4.{index}" for index in range(1, 5)]
URL = f"http://127.0.0.1:{HTTP_PORT}/v2/models/m/infer"


@contextmanager
def process(command: list[str]) -> "Iterator[subprocess.Popen[bytes]]":
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


def measure(algorithm: BalancingAlgorithm, options: argparse.Namespace, *, seed: int) -> Seen:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for address in ADDRESSES:
            ports = [str(POD_PORT), str(UPSTREAM_PORT), str(options.service), str(options.cache)]
            stack.enter_context(process([sys.executable, "-m", "bench.balancer.pod", address, *ports]))
        pods = [f"{address}:{POD_PORT}" for address in ADDRESSES]
        file = configuration(algorithm, Path(folder), pods=pods, http_port=HTTP_PORT, admin_port=ADMIN_PORT)
        stack.enter_context(process(["haproxy", "-db", "-f", str(file)]))
        load = Load(
            url=URL, rate=options.rate, seconds=options.seconds, keys=options.keys, exponent=options.zipf, seed=seed
        )
        return asyncio.run(_after_start(load))


async def _after_start(load: Load) -> Seen:
    await wait_until_up()
    return await run(load)


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
        "hopP50Ms": milliseconds(hops, 0.5),
        "hopP99Ms": milliseconds(hops, 0.99),
        "outsideP50Ms": round(1000 * statistics.median(value for seen in runs for value in seen.outside), 3),
        "mostUncoveredShare": round(max(value for seen in runs for value in seen.uncovered), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=250.0, help="requests per second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--service", type=float, default=8.0, help="milliseconds of a miss, one at a time per pod")
    parser.add_argument("--keys", type=int, default=2000)
    parser.add_argument("--zipf", type=float, default=0.8, help="exponent of the keys' popularity")
    parser.add_argument("--cache", type=int, default=150_000, help="bytes of each pod's cache")
    options = parser.parse_args()
    runs: dict[BalancingAlgorithm, list[Seen]] = {algorithm: [] for algorithm in BalancingAlgorithm}
    for turn in range(options.rounds):
        for algorithm, seen in runs.items():
            seen.append(measure(algorithm, options, seed=turn))
            print(f"round {turn + 1} of {options.rounds}: {algorithm.value} done", file=sys.stderr)
    rows = [row(algorithm, seen) for algorithm, seen in runs.items()]
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(table(rows, options))


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    title = (
        f"{options.rate:g} requests/s, {len(ADDRESSES)} pods, {options.service:g} ms per miss, {options.keys} keys, "
        f"zipf {options.zipf:g}, {options.cache} bytes of cache per pod, {options.rounds} x {options.seconds:g} s"
    )
    names = ("algorithm", "requests", "errors", "hitRatio", "p50Ms", "p99Ms", "hopP50Ms", "hopP99Ms")
    lines = ["| " + " | ".join(names) + " |", "| --- " * len(names) + "|"]
    lines += ["| " + " | ".join(str(r[name]) for name in names) + " |" for r in rows]
    return "\n".join([title, "", *lines])


if __name__ == "__main__":
    main()
