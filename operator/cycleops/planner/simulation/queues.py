"""One stage, plain numpy in and out. Times are seconds on one clock; arrays have one entry per request."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.simulation.rules import Patience, Rules, Table, endless

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Served:
    """Per request: when its batch started and how long that batch computed. ``busy_seconds``, ``batches``: sums.

    ``chosen``: the replica of each request. ``given_up``: patience was over, and later requests are missing.
    """

    start: Array
    compute: Array
    busy_seconds: float
    batches: int
    largest_batch: int
    chosen: Indices
    given_up: bool = False


def first_come_first_served(*, arrival: Array, service: Array, servers: int = 1) -> Array:
    """Start of service on any of ``servers``, in order of arrival (G/G/c). ``arrival`` rises.

    Raises ValueError on arrays that differ in length, or no server.
    """
    from cycleops.planner.simulation.kernels import starts_in_order  # numba: imported when it is needed

    if len(arrival) != len(service) or servers < 1:
        raise ValueError("arrival and service must be equally long, and servers at least 1")
    start = np.empty(len(arrival))
    starts_in_order(plain(arrival), plain(service), np.zeros(servers), start)
    return start


def serve_batches(
    *,
    ready: Array,
    tokens: Indices,
    level: Indices,
    table: Table,
    rules: Rules,
    beside_seconds: Array | None = None,
    after: Array | None = None,
    patience: Patience | None = None,
) -> Served:
    """One replica. ``ready``: when each request is at the queue, in any order; the result is in the same order.

    ``after``: from the end of compute to the answer; only ``patience`` asks for it.
    The queue is in order of readiness, as in our server (earliest deadline first with equal budgets).
    """
    from cycleops.planner.simulation.kernels import close_batches  # numba: imported when it is needed

    order = np.argsort(ready, kind="stable")
    beside = np.zeros(len(ready)) if beside_seconds is None else beside_seconds[order]
    left = np.zeros(len(ready)) if after is None else after[order]
    patience = patience or endless(len(ready))
    in_order = Patience(patience.late_after[order], patience.traffic[order], patience.spare)
    start, compute, bucket = np.empty(len(ready)), np.empty(len(ready)), np.array([-1.0, 0.0])
    busy, batches, largest = close_batches(
        plain(ready[order]),
        whole(tokens[order]),
        whole(level[order]),
        plain(beside),
        table,
        rules,
        bucket,
        start,
        compute,
        in_order,
        plain(left),
    )
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return Served(
        start=start[back],
        compute=compute[back],
        busy_seconds=busy,
        batches=batches,
        largest_batch=largest,
        chosen=np.zeros(len(ready), dtype=np.int64),
        given_up=bool((patience.spare < 0).any()),
    )


def plain(values: Array) -> Array:
    """As the compiled loops take it; other layouts would be compiled apart."""
    return np.ascontiguousarray(values, dtype=np.float64)


def whole(values: Indices) -> Indices:
    return np.ascontiguousarray(values, dtype=np.int64)
