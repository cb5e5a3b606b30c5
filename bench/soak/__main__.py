"""Soak: server and cache sidecar under Poisson load, their resident memory over time, and whether it is flat.

    python -m bench.soak --minutes 60

Each request's text is new. Without --rate the load is 55 % of what a closed loop of the same requests was answered at
the beginning. Prints a line per period, and at the end a table and the verdict; bench/soak/verdict.py has its rule.
Writes out/bench/soak.json: {capacity, rate, rows: [{seconds, serverMb, sidecarMb, requests, outcomes, p99Ms}],
verdicts: {server, sidecar}}; outcomes are status codes, or what went wrong instead of one.
"""

import argparse
import sys

from bench.in_image import run_in_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, help="requests per second (default: 55 %% of the measured capacity)")
    options = parser.parse_args()
    command = ["python", "-m", "bench.soak.measure", "--out", "/out", "--minutes", str(options.minutes)]
    rate = ["--rate", str(options.rate)] if options.rate is not None else []
    sys.exit(run_in_image("bench-serve", [*command, *rate]))


if __name__ == "__main__":
    main()
