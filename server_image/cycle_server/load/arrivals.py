"""When requests come and which text each asks: pure, from a seed."""

import bisect
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

NORMAL_P99 = 2.3263478740408408  # the standard normal distribution's 99th percentile


@dataclass(frozen=True)
class LengthDistribution:
    """Lognormal, from its median and 99th percentile."""

    p50: float
    p99: float

    def sample(self, source: random.Random) -> int:
        sigma = math.log(self.p99 / self.p50) / NORMAL_P99
        return max(round(self.p50 * math.exp(sigma * source.gauss(0, 1))), 1)


def poisson(*, rate: float, duration_seconds: float, seed: int) -> Iterator[float]:
    """Seconds from the start, rising; ``rate`` per second on average."""
    source, now = random.Random(seed), 0.0
    while (now := now + source.expovariate(rate)) < duration_seconds:
        yield now


def zipf(*, count: int, exponent: float, seed: int) -> Iterator[int]:
    """Ranks 0 to count - 1 without end, rank r with weight 1 / (r + 1)**exponent; exponent 0: all alike."""
    source = random.Random(seed)
    cumulative = list(itertools.accumulate((rank + 1) ** -exponent for rank in range(count)))
    while True:
        yield min(bisect.bisect(cumulative, source.random() * cumulative[-1]), count - 1)
