"""Hit ratio of each policy on traces whose popularity follows Zipf's law, beside Belady's bound (who knows the future).

Answers of one size, so that the bound is exact. Also a trace whose favourites change, and one that a scan runs through.
"""

import heapq
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cycle_server.sidecar.cache import OVERHEAD_BYTES, AnswerCache
from cycle_wire.serving import CachePolicy

QUESTIONS, LENGTH, BODY_BYTES = 20_000, 200_000, 200
Trace = NDArray[np.int64]


def zipf(exponent: float, *, seed: int = 1, length: int = LENGTH) -> Trace:
    weights = np.arange(1, QUESTIONS + 1) ** -exponent
    return np.random.default_rng(seed).choice(QUESTIONS, size=length, p=weights / weights.sum())


def drifting(exponent: float) -> Trace:
    """Every tenth of it has other favourites."""
    parts = [(zipf(exponent, seed=n, length=LENGTH // 10) + n * 500) % QUESTIONS for n in range(10)]
    return np.concatenate(parts)


def scanned(exponent: float) -> Trace:
    """A third of it are questions that nobody asks again."""
    trace = zipf(exponent)
    trace[::3] = np.arange(QUESTIONS, QUESTIONS + len(trace[::3]))
    return trace


TRACES: dict[str, Callable[[], Trace]] = {
    "zipf 0.6": lambda: zipf(0.6),
    "zipf 0.8": lambda: zipf(0.8),
    "zipf 1.0": lambda: zipf(1.0),
    "zipf 1.2": lambda: zipf(1.2),
    "zipf 0.8, favourites change": lambda: drifting(0.8),
    "zipf 0.8, a third asked once": lambda: scanned(0.8),
}


def hit_ratio(policy: CachePolicy, trace: Trace, *, entries: int) -> float:
    """Of the sidecar's own cache with room for ``entries`` answers."""
    size = entries * (OVERHEAD_BYTES[policy] + BODY_BYTES)
    cache = AnswerCache(policy=policy, size_bytes=size, ttl_seconds=1e9)
    body, hits = bytes(BODY_BYTES), 0
    for question in trace.tolist():
        key = question.to_bytes(32, "big")
        if cache.get(key) is not None:
            hits += 1
        else:
            cache.put(key, body)
    return hits / len(trace)


def belady(trace: Trace, *, entries: int) -> float:
    """The most that any policy could: what is asked again last goes, also before it is kept."""
    following = np.full(len(trace), len(trace))
    seen: dict[int, int] = {}
    for place in range(len(trace) - 1, -1, -1):
        following[place] = seen.get(int(trace[place]), len(trace))
        seen[int(trace[place])] = place
    kept: dict[int, int] = {}  # question to when it is asked next
    farthest: list[tuple[int, int]] = []
    hits = 0
    for place, question in enumerate(trace.tolist()):
        hits += question in kept
        kept[question] = int(following[place])
        heapq.heappush(farthest, (-kept[question], question))
        while len(kept) > entries:
            when, candidate = heapq.heappop(farthest)
            if kept.get(candidate) == -when:
                del kept[candidate]
    return hits / len(trace)


def table(shares: tuple[float, ...] = (0.01, 0.1)) -> list[dict[str, object]]:
    """``shares``: how much of all questions the cache has room for."""
    rows: list[dict[str, object]] = []
    for name, make in TRACES.items():
        trace = make()
        for share in shares:
            entries = int(share * QUESTIONS)
            ratios = {str(policy): round(hit_ratio(policy, trace, entries=entries), 4) for policy in CachePolicy}
            rows.append({"trace": name, "room": share, **ratios, "Belady": round(belady(trace, entries=entries), 4)})
    return rows
