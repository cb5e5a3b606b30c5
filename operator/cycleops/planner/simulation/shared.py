"""Replicas whose pods share cores, with HTTP and computing by turns: see shared_kernel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.simulation.fleet import by_kind, ring_of
from cycleops.planner.simulation.rules import Handling, Requests, Rules, Table
from cycleops.planner.simulation.shared_state import BATCHES, LARGEST, new_state

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SharedServed:
    """Per request, seconds on the clock: at the queue, its batch's start and end, the answer at the balancer.

    ``busy_seconds``: of all cores; ``cores``: how many there are.
    """

    ready: Array
    start: Array
    end: Array
    leave: Array
    chosen: Indices
    busy_seconds: float
    cores: int
    batches: int
    largest_batch: int


def on_shared_cores(
    *,
    requests: Requests,
    handling: Handling,
    table: Table,
    rules: Rules,
    replicas: int,
    dispatchers: int,
    load_percent: int | None,
    pods_per_core: int,
) -> SharedServed:
    """Replicas, ``pods_per_core`` on each core. ``load_percent``: the bound of consistent hashing, 0 for least
    connections, None for round robin. ``ready``, ``after`` and ``beside_seconds`` of the requests are not looked at.
    """
    from cycleops.planner.simulation import shared_kernel as kernel  # numba: imported when it is needed

    cores = -(-replicas // pods_per_core)
    state = new_state(len(requests.arrival), replicas, cores, dispatchers)
    rule = kernel.ROUND_ROBIN if load_percent is None else load_percent
    ring = ring_of(replicas if rule > 0 else 1)
    kernel.run_shared(state, by_kind(requests), handling, table, rules, ring, rule, pods_per_core)
    return SharedServed(
        ready=state.ready,
        start=state.start,
        end=state.end,
        leave=state.leave,
        chosen=state.chosen,
        busy_seconds=float(state.busy[0]),
        cores=cores,
        batches=int(state.counts[BATCHES]),
        largest_batch=int(state.counts[LARGEST]),
    )
