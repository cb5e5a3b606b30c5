"""Replicas behind balancers that know only their own requests.

Three take replicas of one kind; ``together`` and ``in_turn`` take any.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.simulation.queues import Served, serve_batches
from cycleops.planner.simulation.rules import (
    RING_POINTS,
    Machines,
    Patience,
    Requests,
    Ring,
    Rules,
    Table,
    alike,
    endless,
)

Indices = NDArray[np.int64]
_RING_SEED = 7  # any: pods' addresses, which place them on the ring, are not known before they run


def least_connections(*, requests: Requests, table: Table, rules: Rules, replicas: int, dispatchers: int) -> Served:
    """HAProxy's leastconn: fewest connections of this dispatcher's own, then whose count has stood longest."""
    return together(requests, table, alike(rules, replicas), dispatchers, 0)


def consistent_hash(
    *, requests: Requests, table: Table, rules: Rules, replicas: int, dispatchers: int, load_percent: int
) -> Served:
    """HAProxy's ``hash-type consistent`` with ``hash-balance-factor``: 16 points for each replica, placed by chance.

    Source: V. Mirrokni, M. Thorup, M. Zadimoghaddam, Consistent Hashing with Bounded Loads, SODA 2018.
    """
    return together(requests, table, alike(rules, replicas), dispatchers, load_percent)


def round_robin(*, requests: Requests, table: Table, rules: Rules, replicas: int, dispatchers: int) -> Served:
    """Each dispatcher in its own turn, so each replica is a queue of its own."""
    return in_turn(requests, table, alike(rules, replicas), dispatchers)


def in_turn(
    requests: Requests, table: Table, machines: Machines, dispatchers: int, patience: Patience | None = None
) -> Served:
    """Round robin over replicas that may differ."""
    requests, count, replicas = by_kind(requests), len(requests.arrival), len(machines.kind)
    patience = patience or endless(count)
    replica = np.zeros(count, dtype=np.int64)
    for dispatcher in range(dispatchers):
        own = np.flatnonzero(requests.dispatcher == dispatcher)
        replica[own] = (np.arange(len(own)) + dispatcher) % replicas
    kind = machines.kind[replica]
    start, compute = requests.ready[kind, np.arange(count)], np.zeros(count)
    busy, batches, largest, given_up = 0.0, 0, 0, False
    for index in range(replicas):
        chosen = np.flatnonzero((replica == index) & requests.queued)
        base, row = int(machines.base[index]), int(machines.kind[index])
        served = serve_batches(
            ready=requests.ready[row, chosen],
            tokens=requests.tokens[chosen],
            level=requests.level[chosen],
            beside_seconds=requests.beside_seconds[row, chosen],
            table=table._replace(law=table.law[base:], left=table.left[base:], share=table.share[base:]),
            rules=Rules(
                maximum_batch=int(machines.maximum_batch[index]),
                delay_seconds=float(machines.delay_seconds[index]),
                quota_seconds=float(machines.quota_seconds[index]),
                threads=float(machines.threads[index]),
            ),
            after=requests.after[row, chosen],
            patience=Patience(patience.late_after[chosen], patience.traffic[chosen], patience.spare),
        )
        start[chosen], compute[chosen] = served.start, served.compute
        busy += served.busy_seconds
        batches += served.batches
        largest = max(largest, served.largest_batch)
        given_up = served.given_up
        if given_up:
            break
    return Served(
        start=start,
        compute=compute,
        busy_seconds=busy,
        batches=batches,
        largest_batch=largest,
        chosen=replica,
        given_up=given_up,
    )


@lru_cache(maxsize=64)
def ring_of(replicas: int) -> Ring:
    """One more replica leaves the points of the others where they are."""
    position = np.random.default_rng(_RING_SEED).random(replicas * RING_POINTS)
    order = np.argsort(position)
    return Ring(position=position[order], owner=order // RING_POINTS)


def together(
    requests: Requests,
    table: Table,
    machines: Machines,
    dispatchers: int,
    load_percent: int,
    patience: Patience | None = None,
) -> Served:
    """Replicas that may differ, chosen by connections; ``load_percent``: 0, or the bound of consistent hashing."""
    from cycleops.planner.simulation import fleet_kernel as kernel  # numba: imported when it is needed

    count, replicas = len(requests.arrival), len(machines.kind)
    state = kernel.new_state(count, replicas, dispatchers)
    ring = ring_of(replicas if load_percent else 1)
    patience = patience or endless(count)
    kernel.run_together(state, by_kind(requests), table, machines, ring, load_percent, patience)
    return Served(
        start=state.start,
        compute=state.compute,
        busy_seconds=float(state.busy[0]),
        batches=int(state.counts[kernel.BATCHES]),
        largest_batch=int(state.counts[kernel.LARGEST]),
        chosen=state.chosen,
        given_up=bool(state.counts[kernel.GIVEN_UP]),
    )


def by_kind(requests: Requests) -> Requests:
    """[kind, request], also where there is one kind."""
    rows = (np.atleast_2d(values) for values in (requests.ready, requests.after, requests.beside_seconds))
    ready, after, beside = rows
    return requests._replace(ready=ready, after=after, beside_seconds=beside)
