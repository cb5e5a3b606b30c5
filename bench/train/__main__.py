"""The trainer's loop beside bare DDP and accelerate, and its scaling from one rank to two (`make bench-train`).

    python -m bench.train                16 minutes on a quiet machine with two cores
    python -m bench.train --scale 0.2    two rounds of short blocks: whether all runs, not how fast

Every rank has one thread and one core. All worlds hold the same model and get the same batches in the same order; they
take turns, block by block, and wait stopped in between. Prints a table and the targets and writes
out/bench/train.json. What is measured, and how: docs/benchmarks/training.md.
"""

import argparse
import sys

from bench.in_image import run_in_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of rounds and steps (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=18.0, help="after which no round begins any more (default: %(default)s)"
    )
    options = parser.parse_args()
    command = ["python", "-m", "bench.train.measure", "--out", "/out"]
    command += ["--scale", str(options.scale), "--minutes", str(options.minutes)]
    sys.exit(run_in_image("bench-train", command))


if __name__ == "__main__":
    main()
