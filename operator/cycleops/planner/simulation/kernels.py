"""The compiled loops of one stage: many servers in order of arrival, and one replica that batches."""

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.simulation.compiled import compiled, inlined
from cycleops.planner.simulation.quota import end_under_quota
from cycleops.planner.simulation.rules import Patience, Rules, Table

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@compiled
def starts_in_order(arrival: Array, service: Array, free: Array, start: Array) -> None:
    """Fills ``start``. ``free``: when each server is free, at first 0; kept as a heap."""
    servers = len(free)
    for i in range(len(arrival)):
        begins = max(arrival[i], free[0])
        start[i] = begins
        ends, place = begins + service[i], 0
        while True:
            child = 2 * place + 1
            if child >= servers:
                break
            if child + 1 < servers and free[child + 1] < free[child]:
                child += 1
            if free[child] >= ends:
                break
            free[place] = free[child]
            place = child
        free[place] = ends


@inlined
def batch_seconds(table: Table, base: int, size: int, tokens: int, level: int) -> float:
    """Of a batch of ``size`` inputs with ``tokens`` together; ``base``: where the replica's table begins."""
    bucket = table.bucket_of[tokens // size]
    left, share = table.left[base + size], table.share[base + size]
    ratio = table.ratio[left, bucket, level]
    if share > 0.0:
        ratio += share * (table.ratio[left + 1, bucket, level] - ratio)
    return table.law[base + size, bucket] * ratio  # type: ignore[no-any-return]


@compiled
def close_batches(
    ready: Array,
    tokens: Indices,
    level: Indices,
    beside: Array,
    table: Table,
    rules: Rules,
    bucket: Array,
    start: Array,
    compute: Array,
    patience: Patience,
    after: Array,
) -> tuple[float, int, int]:
    """Fills start and seconds of each request's batch; busy seconds, batches, the largest one. ``ready`` rises.

    ``patience``: with one entry per request, as ``after``; given up when one of its ``spare`` is below 0.
    """
    count = len(ready)
    first, free, busy, batches, largest, given_up = 0, 0.0, 0.0, 0, 0, False
    while first < count and not given_up:
        begins = max(ready[first], free)
        end, last = first + 1, min(first + rules.maximum_batch, count)
        while end < last and ready[end] <= begins:
            end += 1
        if rules.delay_seconds > 0.0 and end - first < rules.maximum_batch:
            deadline = max(ready[first] + rules.delay_seconds, begins)
            while end < last and ready[end] <= deadline:
                end += 1
            begins = max(begins, ready[end - 1]) if end - first == rules.maximum_batch else deadline
        together, extra = 0, 0.0
        for i in range(first, end):
            together += tokens[i]
            extra += beside[i]
        seconds = batch_seconds(table, 0, end - first, together, level[first])
        if rules.quota_seconds > 0.0:
            ends = end_under_quota(begins, seconds, extra, rules.quota_seconds, rules.threads, bucket)
            seconds = ends - begins
        for i in range(first, end):
            start[i] = begins
            compute[i] = seconds
            if begins + seconds + after[i] > patience.late_after[i]:
                patience.spare[patience.traffic[i]] -= 1
                given_up = given_up or patience.spare[patience.traffic[i]] < 0
        busy += seconds
        batches += 1
        largest = max(largest, end - first)
        free = begins + seconds
        first = end
    return busy, batches, largest


@inlined
def hash_slots(replica: int, replicas: int, served: int, load_percent: int, weight: int) -> int:
    """Connections that a balancer with ``served`` of them gives this replica at most.

    HAProxy's ``hash-balance-factor``: the mean over all replicas, the new request counted, times the percentage,
    rounded so that all slots together are what that makes.
    """
    slots = ((served + 1) * load_percent + 99) // 100
    whole = weight * replicas
    rest = slots % whole
    own = weight * (slots // whole)
    own += ((replica + 1) * weight * rest) // whole - (replica * weight * rest) // whole
    return max(own, 1)


@inlined
def ring_place(position: Array, owner: Indices, spread: float) -> int:
    """The point of the ring that a key goes to first: the nearer one of its two neighbours."""
    points = len(position)
    following = int(np.searchsorted(position, spread))
    ahead = following % points
    behind = (following - 1) % points
    if owner[ahead] == owner[behind]:
        return ahead
    to_next = (position[ahead] - spread) % 1.0
    from_last = (spread - position[behind]) % 1.0
    return behind if from_last <= to_next else ahead
