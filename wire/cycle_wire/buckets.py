"""Buckets of histograms that several parts must cut alike: of T, which balancer and pods count and the operator adds
up, and of input lengths, which servers count and the operator reads.
"""

from itertools import pairwise

LEAST_SECONDS = 1e-4  # less is not told apart
_STEP = 1.25
_MOST_BELOW = 24  # few enough that the balancer's page of five histograms fits into one of HAProxy's buffers
_NEAR = (0.5625, 0.625, 0.6875, 0.75, 0.8125, 0.875, 0.9375, 1.0, 1.0625, 1.125, 1.25, 1.5, 1.75, 2.0)
_FAR = (3.0, 5.0, 10.0)

# Upper bounds of input lengths in tokens; a server counts longer ones as the last.
TOKEN_BUCKETS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)


def time_buckets(budget_milliseconds: float) -> tuple[float, ...]:
    """Upper bounds in seconds, ascending, at most 42.

    Fine around the budget, which is itself a bound: the share of requests within it is exact. Below half of it steps
    of 25 % from 100 us on (wider for budgets above 42 ms, so that their number stays bounded); above twice it, coarse.
    """
    budget = budget_milliseconds / 1000
    below = _geometric(LEAST_SECONDS, budget / 2)
    bounds = sorted({float(f"{bound:.4g}") for bound in (*below, *(budget * share for share in (*_NEAR, *_FAR)))})
    return tuple(bounds)


def _geometric(first: float, last: float) -> list[float]:
    """From ``first`` to ``last``, both included; only ``last`` when it is the smaller."""
    steps = 0
    while first * _STEP**steps < last and steps < _MOST_BELOW:
        steps += 1
    if steps == 0:
        return [last]
    ratio = (last / first) ** (1 / steps)
    return [first * ratio**i for i in range(steps + 1)]


def widest_step(bounds: tuple[float, ...]) -> float:
    """The largest ratio of neighbours: how far off a quantile that is read from the buckets can be."""
    return max(high / low for low, high in pairwise(bounds))
