"""torch.compile against the eager packed engine: CPU time, start-up, memory. all-MiniLM's shapes, random weights.

    python -m bench.compile

Runs in an image of its own, for inductor needs a C++ compiler. Two ways of compiling: what stands between two
attentions of the packed engine, over any number of tokens ("packed compiled"), and transformers' own model over padded
batches, as its users do ("padded compiled"). The batches have mixed lengths, so shapes differ from batch to batch:
``dynamic=True``. Texts per second of the thread's CPU time; the ways take turns. "first" is the wall time of the first
pass over the stream less that of a later one: what a pod's start would take longer. "MiB": how much it grew.
"""

import argparse
import sys

from bench.in_image import run_in_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    command = ["python", "-m", "bench.compile.measure", f"--turns={options.turns}"]
    sys.exit(run_in_image("bench-compile", command))


if __name__ == "__main__":
    main()
