"""The server beside LitServe, KServe's python server, bare FastAPI, and the model called directly (`make bench-serve`).

    python -m bench.serve                        9 minutes on a quiet machine with two cores
    python -m bench.serve --phases capacity      the same in two calls, of 6 minutes: throughput and latency at low load
    python -m bench.serve --phases p99           and of 4: at 80 % of what the first has found in out/bench/serve.json
    python -m bench.serve --scale 0.2            one pass of short measurements: whether all runs, not how fast
    python -m bench.serve --model engine         the peers compute with this project's engine: only the servers differ

Prints a table and the targets. out/bench/serve.json is written after every measurement; one that fails is told at the
end and costs no other. What is measured, and how: docs/benchmarks/serving.md.
"""

import argparse
import sys

from bench.in_image import run_in_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phases", nargs="+", choices=("capacity", "p99"), default=["capacity", "p99"])
    parser.add_argument("--scale", type=float, default=1.0, help="of all durations (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=9.5, help="after which no measurement begins any more (default: %(default)s)"
    )
    parser.add_argument(
        "--model",
        choices=("engine", "transformers"),
        default="transformers",
        help="what the peers compute with: transformers, as their users write it (default), or this project's engine",
    )
    parser.add_argument("--precision", choices=("Float32", "BFloat16"), default="Float32")
    options = parser.parse_args()
    command = ["python", "-m", "bench.serve.measure", "--out", "/out", "--model", options.model]
    command += ["--precision", options.precision, "--scale", str(options.scale), "--minutes", str(options.minutes)]
    command += ["--phases", *options.phases]
    sys.exit(run_in_image("bench-serve", command))


if __name__ == "__main__":
    main()
