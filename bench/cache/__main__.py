"""`python -m bench.cache` (make bench-cache): the sidecar's hits beside nginx and Varnish, and hit ratios by policy.

Server on one core, load on the other, all caches in one run, in turns. Hits per second: wrk, 32 connections, as fast as
it goes. p50 and p99: Poisson arrivals at 70 % of what the sidecar can do (the same rate for all, so that they compare),
and at 70 % of 5,000 and of 10,000 a second, from the moment each should have left. The core's use says whether the
server or the load was the limit.
Writes out/bench/cache.json, cache-hit-ratio.json and a table.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from bench.cache import hit_ratio
from bench.cache.servers import ROOT, Running, load, missing_tools, nginx, sidecar, upstream, varnish, wrk
from cycle_wire.serving import CachePolicy

OUT = ROOT / "out/bench"
QUESTIONS = 1000
LOAD_SHARE = 0.7
ASKED_FOR, AIMED_AT = 5_000, 10_000  # hits per second and core
TURNS = 3


def requests(*, gets: bool, port: int) -> list[str]:
    """As a balancer sends them."""
    made = []
    for number in range(QUESTIONS):
        text = f"a man-made object taken as a whole, number {number}"
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
        body = json.dumps({"inputs": [tensor]})
        more = f"host: 127.0.0.1:{port}\r\nx-request-id: 7f000001{number:08x}\r\nx-forwarded-for: 10.0.0.7\r\n"
        if gets:
            made.append(f"GET /v2/models/m/infer?text={number} HTTP/1.1\r\n{more}\r\n")
        else:
            more += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            made.append(f"POST /v2/models/m/infer HTTP/1.1\r\n{more}\r\n{body}")
    return made


class Measured:
    def __init__(self, running: Running, folder: Path) -> None:
        self.running, self._folder = running, folder
        self._requests = requests(gets=running.gets, port=running.port)
        self._file = folder / f"{running.port}.json"
        self._file.write_text(json.dumps(self._requests))
        self._most: list[tuple[float, float]] = []
        self._paced: dict[float, list[dict[str, float]]] = {}

    def warm(self) -> None:
        load(self.running, self._file, seconds=3)

    def fastest(self, seconds: int) -> None:
        self._most.append(wrk(self.running, self._requests, self._folder, seconds=seconds))

    def paced(self, seconds: int, *, rate: float) -> None:
        result = load(self.running, self._file, seconds=seconds, rate=rate)
        if result["bad"]:
            raise RuntimeError(f"{self.running.name}: {result['bad']} answers were errors")
        self._paced.setdefault(rate, []).append(result)

    @property
    def hits_per_second(self) -> float:
        return statistics.median(rate for rate, _ in self._most)

    def row(self, *, rate: float) -> dict[str, object]:
        per_cpu_second = statistics.median(rate / busy for rate, busy in self._most)
        return {
            "cache": self.running.name,
            "hitsPerSecond": round(self.hits_per_second),
            "hitsPerCpuSecond": round(per_cpu_second),
            "coreBusy": round(statistics.median(busy for _, busy in self._most), 2),
            "rate": round(rate),
            "p50Ms": self._quantile("p50Ms", rate=rate),
            "p99Ms": self._quantile("p99Ms", rate=rate),
            **{f"p99MsAt{part:.0f}": self._quantile("p99Ms", rate=part) for part in lower_rates()},
        }

    def _quantile(self, name: str, *, rate: float) -> float:
        """The median over turns."""
        return round(statistics.median(one[name] for one in self._paced[rate]), 3)


def lower_rates() -> list[float]:
    return [LOAD_SHARE * rate for rate in (ASKED_FOR, AIMED_AT)]


def measure(seconds: int) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, upstream() as port:
        folder = Path(name)
        with (
            sidecar(folder, upstream_port=port, policy=CachePolicy.S3FIFO) as ours,
            nginx(folder, upstream_port=port) as one,
            varnish(folder, upstream_port=port) as other,
        ):
            all_of_them = [Measured(running, folder) for running in (ours, one, other)]
            for measured in all_of_them:
                measured.warm()
            for _ in range(TURNS):
                for measured in all_of_them:
                    measured.fastest(seconds)
            rate = LOAD_SHARE * all_of_them[0].hits_per_second
            for _ in range(TURNS):
                for load_rate in (*lower_rates(), rate):
                    for measured in all_of_them:
                        measured.paced(seconds, rate=load_rate)
            return [measured.row(rate=rate) for measured in all_of_them]


def written(rows: list[dict[str, object]]) -> str:
    """As a table in Markdown."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row[name]) for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=6, help="of each of the turns (default: %(default)s)")
    options = parser.parse_args()
    if missing := missing_tools():
        print(f"not there: {', '.join(missing)}; make bench-cache installs nginx-light, varnish and wrk")
        return 1
    OUT.mkdir(parents=True, exist_ok=True)
    rows = measure(options.seconds)
    (OUT / "cache.json").write_text(json.dumps(rows, indent=1))
    ratios = hit_ratio.table()
    (OUT / "cache-hit-ratio.json").write_text(json.dumps(ratios, indent=1))
    text = f"{written(rows)}\n\n{written(ratios)}\n\nload average {os.getloadavg()[0]:.1f}\n"
    (OUT / "cache.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
