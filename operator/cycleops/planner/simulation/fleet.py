"""Replicas behind balancers that know only their own requests."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.simulation.queues import Served, serve_batches
from cycleops.planner.simulation.rules import RING_POINTS, Handling, Requests, Ring, Rules, Table

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
_RING_SEED = 7  # any: pods' addresses, which place them on the ring, are not known before they run


def least_connections(*, requests: Requests, table: Table, rules: Rules, replicas: int, dispatchers: int) -> Served:
    """HAProxy's leastconn: fewest connections of this dispatcher's own, then whose count has stood longest."""
    return _together(requests, table, rules, replicas, dispatchers, 0)


def consistent_hash(
    *, requests: Requests, table: Table, rules: Rules, replicas: int, dispatchers: int, load_percent: int
) -> Served:
    """HAProxy's ``hash-type consistent`` with ``hash-balance-factor``: 16 points for each replica, placed by chance.

    Source: V. Mirrokni, M. Thorup, M. Zadimoghaddam, Consistent Hashing with Bounded Loads, SODA 2018.
    """
    return _together(requests, table, rules, replicas, dispatchers, load_percent)


def round_robin(*, requests: Requests, table: Table, rules: Rules, replicas: int, dispatchers: int) -> Served:
    """Each dispatcher in its own turn, so each replica is a queue of its own."""
    replica = np.zeros(len(requests.arrival), dtype=np.int64)
    for dispatcher in range(dispatchers):
        own = np.flatnonzero(requests.dispatcher == dispatcher)
        replica[own] = (np.arange(len(own)) + dispatcher) % replicas
    start, compute = requests.ready.copy(), np.zeros(len(requests.arrival))
    busy, batches, largest = 0.0, 0, 0
    for index in range(replicas):
        chosen = np.flatnonzero((replica == index) & requests.queued)
        served = serve_batches(
            ready=requests.ready[chosen],
            tokens=requests.tokens[chosen],
            level=requests.level[chosen],
            beside_seconds=requests.beside_seconds[chosen],
            table=table,
            rules=rules,
        )
        start[chosen], compute[chosen] = served.start, served.compute
        busy += served.busy_seconds
        batches += served.batches
        largest = max(largest, served.largest_batch)
    return Served(start=start, compute=compute, busy_seconds=busy, batches=batches, largest_batch=largest)


@dataclass(frozen=True, kw_only=True)
class SharedServed:
    """Per request, seconds on the clock: at the queue, its batch's start and end, the answer at the balancer.

    ``busy_seconds``: of all cores; ``cores``: how many there are.
    """

    ready: Array
    start: Array
    end: Array
    leave: Array
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
    from cycleops.planner.simulation.shared_state import BATCHES, LARGEST, new_state

    cores = -(-replicas // pods_per_core)
    state = new_state(len(requests.arrival), replicas, cores, dispatchers)
    rule = kernel.ROUND_ROBIN if load_percent is None else load_percent
    ring = ring_of(replicas if rule > 0 else 1)
    kernel.run_shared(state, requests, handling, table, rules, ring, rule, pods_per_core)
    return SharedServed(
        ready=state.ready,
        start=state.start,
        end=state.end,
        leave=state.leave,
        busy_seconds=float(state.busy[0]),
        cores=cores,
        batches=int(state.counts[BATCHES]),
        largest_batch=int(state.counts[LARGEST]),
    )


@lru_cache(maxsize=64)
def ring_of(replicas: int) -> Ring:
    """One more replica leaves the points of the others where they are."""
    position = np.random.default_rng(_RING_SEED).random(replicas * RING_POINTS)
    order = np.argsort(position)
    return Ring(position=position[order], owner=order // RING_POINTS)


def _together(
    requests: Requests, table: Table, rules: Rules, replicas: int, dispatchers: int, load_percent: int
) -> Served:
    from cycleops.planner.simulation import fleet_kernel as kernel  # numba: imported when it is needed

    state = kernel.new_state(len(requests.arrival), replicas, dispatchers)
    kernel.run_together(state, requests, table, rules, ring_of(replicas if load_percent else 1), load_percent)
    return Served(
        start=state.start,
        compute=state.compute,
        busy_seconds=float(state.busy[0]),
        batches=int(state.counts[kernel.BATCHES]),
        largest_batch=int(state.counts[kernel.LARGEST]),
    )
