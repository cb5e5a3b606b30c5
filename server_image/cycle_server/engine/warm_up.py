"""The first computations, at the sizes that will come: kernels are made, memory is claimed, and times are known."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cycle_server.engine.choose import AnyEngine

WARM_UP_SECONDS_PER_SIZE = 0.5
WARM_UP_REPEATS = 4


def warm_up(engine: AnyEngine, *, lengths: Sequence[int], batch_sizes: set[int]) -> list[tuple[int, float]]:
    """Tokens and seconds, the fastest of each size."""
    samples: list[tuple[int, float]] = []
    known = sorted({min(length, engine.maximum_tokens) for length in lengths} or {16})
    engine.prepare(known[-1] * max(batch_sizes))
    for length in known:
        for batch_size in sorted(batch_sizes):
            items = [engine.sample(length) for _ in range(batch_size)]
            until = time.monotonic() + WARM_UP_SECONDS_PER_SIZE
            times = []
            for _ in range(WARM_UP_REPEATS):
                started = time.monotonic()
                engine.post(engine.compute(items))
                times.append(time.monotonic() - started)
                if time.monotonic() > until and len(times) > 1:
                    break
            samples.append((batch_size * length, min(times)))
    return samples
