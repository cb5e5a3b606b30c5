"""Soak: server and cache sidecar under Poisson load, their resident memory over time.

    python -m bench.soak --minutes 60

Prints a line per period and writes out/bench/soak.json: [{seconds, serverMb, sidecarMb, requests, errors, p99Ms}].
"""

import argparse
import sys

from bench.in_image import run_in_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=50.0, help="requests per second (default: %(default)g)")
    options = parser.parse_args()
    command = ["python", "-m", "bench.soak.measure", "--out", "/out"]
    sys.exit(run_in_image("bench-serve", [*command, "--minutes", str(options.minutes), "--rate", str(options.rate)]))


if __name__ == "__main__":
    main()
