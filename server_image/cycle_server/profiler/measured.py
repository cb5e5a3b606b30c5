"""What a task's own measurements give to its Profile."""

from collections.abc import Sequence
from dataclasses import dataclass

from cycle_server.profiler.http import WARM_UP_REQUESTS
from cycle_wire.profile import GenerationRow, MetricValue, ProfileRow

HTTP_REQUESTS = 120 + WARM_UP_REQUESTS


@dataclass(frozen=True)
class Measured:
    """``bodies``: of different requests to infer, for what HTTP adds. ``pool_bytes``: memory that they don't touch.

    ``workers`` take from the pod's queue, each with so many ``threads``.
    """

    metrics: Sequence[MetricValue]
    batch_invariant: bool
    neighbour_difference: float
    bodies: Sequence[bytes]
    workers: int
    threads: int
    rows: Sequence[ProfileRow] = ()
    generation: Sequence[GenerationRow] = ()
    pool_bytes: int = 0


def different(texts: Sequence[str], count: int) -> list[str]:
    """``count`` different texts; with too few, numbered ones."""
    unique = list(dict.fromkeys(texts))[:count]
    return unique + [f"{unique[i % len(unique)]} {i}" for i in range(count - len(unique))]
