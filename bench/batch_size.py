"""What the largest batch does to p99, by simulation: one thread, first come, first served, Poisson arrivals.

    PYTHONPATH=server_image python -m bench.batch_size

A batch of n tokens takes FIXED + n * PER_TOKEN seconds, and answers all its texts at its end. The rates in the last
columns are shares of what full batches of 8 carry; one sequence of arrivals and lengths for all rows of a table.
"""

import random
from collections.abc import Sequence

from cycle_server.load.arrivals import LengthDistribution

FIXED, PER_TOKEN = 0.0012, 0.00025  # float32 on the project's machine, docs/notes/2026-11-24-serving-kernels.md
BUDGET_MILLISECONDS = 80.0
REQUESTS = 12_000
SIZES = (1, 2, 4, 8, 16)
SHARES = (0.4, 0.6, 0.7, 0.8)
STEPS = 8
DISTRIBUTIONS = {
    "p50 16, p99 48": LengthDistribution(p50=16, p99=48),
    "p50 24, p99 128": LengthDistribution(p50=24, p99=128),
}


def p99_milliseconds(lengths: Sequence[int], *, rate: float, size: int, seed: int) -> float:
    source, moment, arrivals = random.Random(seed), 0.0, []
    for _ in lengths:
        moment += source.expovariate(rate)
        arrivals.append(moment)
    now, first, latencies = 0.0, 0, []
    while first < len(arrivals):
        now, last = max(now, arrivals[first]), first
        while last < len(arrivals) and last - first < size and arrivals[last] <= now:
            last += 1
        now += FIXED + PER_TOKEN * sum(lengths[first:last])
        latencies += [now - arrival for arrival in arrivals[first:last]]
        first = last
    return 1000 * sorted(latencies)[int(0.99 * len(latencies))]


def held_rate(lengths: Sequence[int], *, size: int, highest: float) -> float:
    low, high = 0.2 * highest, highest
    for _ in range(STEPS):
        middle = (low + high) / 2
        if p99_milliseconds(lengths, rate=middle, size=size, seed=1) <= BUDGET_MILLISECONDS:
            low = middle
        else:
            high = middle
    return low


def main() -> None:
    for label, distribution in DISTRIBUTIONS.items():
        source = random.Random(0)
        lengths = [min(distribution.sample(source), 256) for _ in range(REQUESTS)]
        full = 8 / (FIXED + 8 * PER_TOKEN * sum(lengths) / REQUESTS)
        rates = [share * full for share in SHARES]
        print(f"lengths {label}\nlargest batch   holds   p99 at 80 % of that   p99 at", end="")
        print("".join(f"{rate:>8.0f}/s" for rate in rates))
        for size in SIZES:
            holds = held_rate(lengths, size=size, highest=full)
            cells = [p99_milliseconds(lengths, rate=rate, size=size, seed=2) for rate in (0.8 * holds, *rates)]
            print(f"{size:>13}{holds:>8.0f}{cells[0]:>22.1f}" + " " * 9 + "".join(f"{p99:>10.1f}" for p99 in cells[1:]))


if __name__ == "__main__":
    main()
