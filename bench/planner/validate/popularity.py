"""What the cache will answer, estimated before anything is asked."""

import numpy as np

from bench.planner.validate.scenarios import POPULAR_TEXTS, PRELOADED_REQUESTS
from cycle_server.load.arrivals import zipf

ESTIMATES_SEED = 99  # of streams that are never sent
STREAMS = 10


def hit_ratio(exponent: float, *, requests: int) -> tuple[float, float]:
    """Estimate and lower 95 % bound, from ten streams of the same law that are never sent: a text that was asked before
    is a hit. The cache is larger than all texts, so it fills, and a longer load of ``requests`` has more hits.
    """
    found = []
    for turn in range(STREAMS):
        ranks = zipf(count=POPULAR_TEXTS, exponent=exponent, seed=ESTIMATES_SEED + turn)
        known = {next(ranks) for _ in range(PRELOADED_REQUESTS)}
        hits = 0
        for _ in range(requests):
            rank = next(ranks)
            hits += rank in known
            known.add(rank)
        found.append(hits / requests)
    mean, scatter = float(np.mean(found)), float(np.std(found, ddof=1))
    return mean, mean - 1.96 * scatter
