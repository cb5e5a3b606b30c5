"""Replicas behind balancers that look at their connections: what one request does depends on what has finished.

So all replicas run together, event by event: a batch starts, or an answer leaves.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.simulation.compiled import compiled, inlined
from cycleops.planner.simulation.kernels import batch_seconds, hash_slots, ring_place
from cycleops.planner.simulation.quota import end_under_quota
from cycleops.planner.simulation.rules import RING_POINTS, Machines, Patience, Requests, Ring, Table

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
_NONE = -1
_OPEN, _TURN, BATCHES, LARGEST, GIVEN_UP, _NEXT, _GONE = 0, 1, 2, 3, 4, 5, 6  # places in State.counts
_TURNS = 40  # bits: more than there are turns


class State(NamedTuple):
    """All that changes: by request, by replica, by dispatcher, and sums."""

    start: Array
    compute: Array
    ready: Array  # at the replica that it was given to
    chosen: Indices
    following: Indices  # in the replica's list
    before: Indices
    head: Indices
    tail: Indices
    waiting: Indices
    free: Array
    scheduled: Array  # the next batch's start
    bucket: Array  # of the CPU limit
    connections: Indices  # [dispatcher, replica]
    turn: Indices  # [dispatcher, replica]: when that number last changed
    served: Indices
    answers: Array  # when they leave, in that order; those up to _GONE have left, those up to _OPEN are open
    answered: Indices
    counts: Indices
    busy: Array


@inlined
def push(times: Array, items: Indices, size: int, time: float, item: int) -> int:
    """Into a heap by time; the new size."""
    place = size
    while place > 0:
        parent = (place - 1) // 2
        if times[parent] <= time:
            break
        times[place], items[place] = times[parent], items[parent]
        place = parent
    times[place], items[place] = time, item
    return size + 1


@inlined
def pop(times: Array, items: Indices, size: int) -> int:
    """The first is dropped; the new size."""
    size -= 1
    time, item, place = times[size], items[size], 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and times[child + 1] < times[child]:
            child += 1
        if times[child] >= time:
            break
        times[place], items[place] = times[child], items[child]
        place = child
    times[place], items[place] = time, item
    return size


@inlined
def enqueue(
    request: int, replica: int, ready: Array, head: Indices, tail: Indices, following: Indices, before: Indices
) -> None:
    """Into the replica's list, which is in order of readiness; nearly always at its end."""
    place = tail[replica]
    while place != _NONE and ready[place] > ready[request]:
        place = before[place]
    behind = head[replica] if place == _NONE else following[place]
    before[request], following[request] = place, behind
    if place == _NONE:
        head[replica] = request
    else:
        following[place] = request
    if behind == _NONE:
        tail[replica] = request
    else:
        before[behind] = request


@inlined
def next_start(
    first: int, waiting: int, free: float, ready: Array, following: Indices, maximum_batch: int, delay_seconds: float
) -> float:
    """When the replica's next batch starts if nothing else arrives."""
    if first == _NONE:
        return np.inf
    start: float = max(ready[first], free)
    if delay_seconds == 0.0 or maximum_batch == 1:
        return start
    deadline: float = ready[first] + delay_seconds
    if waiting >= maximum_batch:
        last = first
        for _ in range(maximum_batch - 1):
            last = following[last]
        deadline = min(deadline, ready[last])
    return max(start, deadline)


@inlined
def least_connected(connections: Indices, turn: Indices) -> int:
    """Fewest connections; of equals, the one that has had so many for the longest time, as in HAProxy."""
    chosen, fewest = 0, (connections[0] << _TURNS) + turn[0]  # one comparison instead of branches
    for replica in range(1, len(connections)):
        own = (connections[replica] << _TURNS) + turn[replica]
        if own < fewest:
            chosen, fewest = replica, own
    return chosen


@inlined
def hashed(spread: float, connections: Indices, served: int, load_percent: int, ring: Ring) -> int:
    """The nearest point's replica, or the first after it on the ring that may take one more."""
    replicas, place = len(connections), ring_place(ring.position, ring.owner, spread)
    while True:
        replica = ring.owner[place]
        if connections[replica] < hash_slots(replica, replicas, served, load_percent, RING_POINTS):
            return replica  # type: ignore[no-any-return]
        place = (place + 1) % len(ring.owner)


def new_state(count: int, replicas: int, dispatchers: int) -> State:
    """Nobody waits and every replica is free."""
    return State(
        np.zeros(count),
        np.zeros(count),
        np.zeros(count),
        np.zeros(count, dtype=np.int64),
        np.full(count, _NONE),
        np.full(count, _NONE),
        np.full(replicas, _NONE),
        np.full(replicas, _NONE),
        np.zeros(replicas, dtype=np.int64),
        np.zeros(replicas),
        np.full(replicas, np.inf),
        np.full((replicas, 2), -1.0),
        np.zeros((dispatchers, replicas), dtype=np.int64),
        np.zeros((dispatchers, replicas), dtype=np.int64),
        np.zeros(dispatchers, dtype=np.int64),
        np.empty(count + 1),
        np.empty(count + 1, dtype=np.int64),
        np.zeros(7, dtype=np.int64),
        np.zeros(1),
    )


@inlined
def answer_leaves_later(state: State, request: int, time: float) -> None:
    """Nearly always at the end or a few places before it: quicker than a heap up to some hundred open answers."""
    place, gone = state.counts[_OPEN], state.counts[_GONE]
    while place > gone and state.answers[place - 1] > time:
        state.answers[place], state.answered[place] = state.answers[place - 1], state.answered[place - 1]
        place -= 1
    state.answers[place], state.answered[place] = time, request
    state.counts[_OPEN] += 1


@inlined
def count_connection(state: State, dispatcher: int, replica: int, change: int) -> None:
    state.connections[dispatcher, replica] += change
    state.served[dispatcher] += change
    state.counts[_TURN] += 1
    state.turn[dispatcher, replica] = state.counts[_TURN]


@inlined
def start_batch(
    state: State, replica: int, requests: Requests, table: Table, machines: Machines, patience: Patience
) -> None:
    now, first, kind = state.scheduled[replica], state.head[replica], machines.kind[replica]
    request, size, tokens, beside = first, 0, 0, 0.0
    while request != _NONE and size < machines.maximum_batch[replica] and state.ready[request] <= now:
        tokens += requests.tokens[request]
        beside += requests.beside_seconds[kind, request]
        size += 1
        request = state.following[request]
    seconds = batch_seconds(table, machines.base[replica], size, tokens, requests.level[first])
    if machines.quota_seconds[replica] > 0.0:
        quota, threads, bucket = machines.quota_seconds[replica], machines.threads[replica], state.bucket[replica]
        seconds = end_under_quota(now, seconds, beside, quota, threads, bucket) - now
    request = first
    for _ in range(size):
        state.start[request], state.compute[request] = now, seconds
        leaves_at = now + seconds + requests.after[kind, request]
        answer_leaves_later(state, request, leaves_at)
        if leaves_at > patience.late_after[request]:
            patience.spare[patience.traffic[request]] -= 1
            if patience.spare[patience.traffic[request]] < 0:
                state.counts[GIVEN_UP] = 1
        request = state.following[request]
    state.head[replica] = request
    if request == _NONE:
        state.tail[replica] = _NONE
    else:
        state.before[request] = _NONE
    state.waiting[replica] -= size
    state.free[replica] = now + seconds
    state.busy[0] += seconds
    state.counts[BATCHES] += 1
    state.counts[LARGEST] = max(state.counts[LARGEST], size)
    schedule(state, replica, machines)


@inlined
def schedule(state: State, replica: int, machines: Machines) -> None:
    """When this replica's next batch starts, and whose starts first of all."""
    first, waiting, free = state.head[replica], state.waiting[replica], state.free[replica]
    largest, delay = machines.maximum_batch[replica], machines.delay_seconds[replica]
    before, first_one = state.scheduled[replica], state.counts[_NEXT]
    start = next_start(first, waiting, free, state.ready, state.following, largest, delay)
    state.scheduled[replica] = start
    if replica == first_one:
        if start > before:
            state.counts[_NEXT] = np.argmin(state.scheduled)
    elif start < state.scheduled[first_one] or (start == state.scheduled[first_one] and replica < first_one):
        state.counts[_NEXT] = replica


@inlined
def dispatch(state: State, request: int, requests: Requests, machines: Machines, ring: Ring, load_percent: int) -> None:
    dispatcher = requests.dispatcher[request]
    connections = state.connections[dispatcher]
    if load_percent > 0:
        replica = hashed(requests.spread[request], connections, state.served[dispatcher], load_percent, ring)
    else:
        replica = least_connected(connections, state.turn[dispatcher])
    kind = machines.kind[replica]
    state.chosen[request], state.ready[request] = replica, requests.ready[kind, request]
    count_connection(state, dispatcher, replica, 1)
    if requests.queued[request]:
        enqueue(request, replica, state.ready, state.head, state.tail, state.following, state.before)
        state.waiting[replica] += 1
        schedule(state, replica, machines)
    else:
        answer_leaves_later(state, request, state.ready[request] + requests.after[kind, request])


@compiled
def run_together(
    state: State,
    requests: Requests,
    table: Table,
    machines: Machines,
    ring: Ring,
    load_percent: int,
    patience: Patience,
) -> None:
    """From a new state to one in which all is answered, or ``patience`` is over.

    ``load_percent``: 0 for least connections; else consistent hashing with this bound.
    """
    count, arriving = len(requests.arrival), 0
    while state.counts[GIVEN_UP] == 0:
        replica = state.counts[_NEXT]  # whose batch starts first
        batch_at = state.scheduled[replica]
        gone = state.counts[_GONE]
        answer_at = state.answers[gone] if state.counts[_OPEN] > gone else np.inf
        arrives_at = requests.arrival[arriving] if arriving < count else np.inf
        if batch_at <= arrives_at and batch_at <= answer_at:
            if batch_at == np.inf:
                break
            start_batch(state, replica, requests, table, machines, patience)
        elif answer_at <= arrives_at:
            request = state.answered[gone]
            state.counts[_GONE] += 1
            count_connection(state, requests.dispatcher[request], state.chosen[request], -1)
        else:
            dispatch(state, arriving, requests, machines, ring, load_percent)
            arriving += 1
