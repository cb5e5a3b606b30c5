"""The server beside LitServe, KServe's python server, bare FastAPI, and the model called directly (`make bench-serve`).

    python -m bench.serve                 about 8 minutes on a quiet machine with two cores
    python -m bench.serve --quick         2 minutes, one pass: for a look, not for numbers to write down
    python -m bench.serve --model engine  the peers compute with this project's engine, so that only the servers differ

Prints a table and writes out/bench/serve.json. What is measured, and how: docs/benchmarks/serving.md.
"""

import argparse
import sys

from bench.in_image import run_in_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--model",
        choices=("engine", "transformers"),
        default="transformers",
        help="what the peers compute with: transformers, as their users write it (default), or this project's engine",
    )
    parser.add_argument("--precision", choices=("Float32", "BFloat16"), default="Float32")
    options = parser.parse_args()
    command = ["python", "-m", "bench.serve.measure", "--out", "/out", "--model", options.model]
    command += ["--precision", options.precision, *(["--quick"] if options.quick else [])]
    sys.exit(run_in_image("bench-serve", command))


if __name__ == "__main__":
    main()
