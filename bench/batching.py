"""What batches of mixed lengths cost: padded to the longest, bucketed by length, or packed as our engine does.

    python -m tests.images.run server -- python -m bench.batching

Texts per second of the thread's CPU time (on a shared machine, waiting for a core isn't the batch's fault), on one
recorded stream of lengths; the ways take turns. "window" is how many texts wait, to choose like lengths from. The
padded ways compute on padding as if it were text: without a mask, which is in their favour.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from bench.kernels import CANDIDATES, LONGEST, make_encoder
from cycle_server.engine.encoder import Encoder
from cycle_server.engine.pipeline import configure_process
from cycle_server.load.arrivals import LengthDistribution

Text = list[int]
Batches = list[list[Text]]
STREAM = 192
WINDOW = 64
DISTRIBUTIONS = {
    "p50 16, p99 48": LengthDistribution(p50=16, p99=48),
    "p50 24, p99 256": LengthDistribution(p50=24, p99=256),
}
KERNELS = ("fp32 packed", "bf16 packed", "int8 fbgemm")


def as_they_come(texts: Sequence[Text], size: int) -> Batches:
    return [list(texts[i : i + size]) for i in range(0, len(texts), size)]


def like_lengths(texts: Sequence[Text], size: int) -> Batches:
    """Of WINDOW waiting texts the oldest runs with those nearest in length, again and again: nobody is passed over."""
    waiting, coming, batches = list(texts[:WINDOW]), list(texts[WINDOW:]), []
    while waiting:
        head = waiting[0]
        near = sorted(range(len(waiting)), key=lambda i: (abs(len(waiting[i]) - len(head)), i))[:size]
        batches.append([waiting[i] for i in near])
        waiting = [text for i, text in enumerate(waiting) if i not in near]
        waiting, coming = waiting + coming[:size], coming[size:]
    return batches


def padded(batches: Batches) -> Batches:
    return [[text + [0] * (max(map(len, batch)) - len(text)) for text in batch] for batch in batches]


WAYS: dict[str, Callable[[Sequence[Text], int], Batches]] = {
    "padded": lambda texts, size: padded(as_they_come(texts, size)),
    "padded, like lengths": lambda texts, size: padded(like_lengths(texts, size)),
    "packed": as_they_come,
    "packed, like lengths": like_lengths,
}


def stream(lengths: LengthDistribution, *, seed: int) -> list[Text]:
    source = random.Random(seed)
    return [
        [source.randrange(1000, 20_000) for _ in range(min(lengths.sample(source), LONGEST))] for _ in range(STREAM)
    ]


def measure(encoder: Encoder, ways: dict[str, Batches], *, turns: int) -> dict[str, list[float]]:
    """Seconds of each way over the whole stream, one per turn."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):  # the first warms up
        for name, batches in ways.items():
            started = time.thread_time()
            for batch in batches:
                encoder.logits(batch)
            if turn:
                times[name].append(time.thread_time() - started)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    configure_process(threads=1)
    with torch.inference_mode():
        for label, lengths in DISTRIBUTIONS.items():
            texts = stream(lengths, seed=1)
            ways = {name: way(texts, options.batch_size) for name, way in WAYS.items()}
            print(f"lengths {label}, batches of {options.batch_size}: texts/s (against padded)", flush=True)
            print(f"{'':<16}" + "".join(f"{name:>24}" for name in ways))
            for kernel in KERNELS:
                times = measure(make_encoder(*CANDIDATES[kernel]), ways, turns=options.turns)
                rates = {name: STREAM / statistics.median(seconds) for name, seconds in times.items()}
                cells = [f"{rate:.0f} ({rate / rates['padded']:.2f})" for rate in rates.values()]
                print(f"{kernel:<16}" + "".join(f"{cell:>24}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
