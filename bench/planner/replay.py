"""Replays arrivals against a service whose replicas come and go: batch queues behind two balancers, request by request.

The planner's simulator answers for one rate and a fixed number of replicas. Here both change while it runs, and a
controller may look at what was measured so far. The model is the planner's (least connections per balancer, a batch
closes when the compute thread is free, T = overhead + pre + queue + compute + post); tests hold the two together.

A window's numbers are of requests *answered* in it: nothing that a controller reads lies in its future.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
BINS = 600
FIRST_BIN_SECONDS = 1e-3
GROWTH = 1.02
_WAITING = 512  # slots of a replica's ring; the queue limit is below
_ANSWERED, _WITHIN, _SHED, _STARTED = range(4)  # places in Tally.counts
_COMPUTE, _BUSY = range(2)  # places in Tally.seconds


class Requests(NamedTuple):
    """Of one trace, in order of arrival. ``beside_seconds``: overhead, pre and post, which lie outside the queue."""

    arrival: Array
    level: Indices
    tokens: Indices
    beside_seconds: Array
    dispatcher: Indices


class Server(NamedTuple):
    """``compute``: seconds by [batch size - 1, length bucket, level]. A full queue refuses at once."""

    compute: Array
    bucket_of: Indices
    maximum_batch: int
    queue_limit: int
    budget_seconds: float


class State(NamedTuple):
    """Of the replicas, by slot. ``changed``: when the number of connections last did, by [balancer, slot]."""

    ready_at: Array
    open: NDArray[np.int8]
    ring: Indices  # requests that wait
    head: Indices
    waiting: Indices
    batch: Indices  # requests that compute
    in_batch: Indices
    free: Array  # when the batch is done
    connections: Indices
    changed: Array


class Tally(NamedTuple):
    counts: Indices
    seconds: Array
    histogram: Indices


@dataclass(frozen=True, kw_only=True)
class WindowCounts:
    """What happened in a window. Late answers and refusals are both outside the budget."""

    arrivals: int
    answered: int
    within: int
    shed: int
    started: int  # requests whose batch began
    compute_seconds: float  # of those, each with its batch's
    busy_seconds: float
    histogram: Indices

    def quantile_seconds(self, share: float) -> float:
        """The middle of the bin that holds the quantile; 0 without answers."""
        seen = np.cumsum(self.histogram)
        if not len(seen) or seen[-1] == 0:
            return 0.0
        return float(FIRST_BIN_SECONDS * GROWTH ** (0.5 + np.searchsorted(seen, share * seen[-1])))


@dataclass(kw_only=True)
class Replay:
    """One run. Replica ``i`` takes requests from ``ready_at[i]`` on, and none while ``open[i]`` is 0.

    Raises ValueError when the server's queue limit is beyond what a replica's ring holds.
    """

    requests: Requests
    server: Server
    slots: int
    state: State = field(init=False)
    _next: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if not 1 <= self.server.queue_limit < _WAITING:
            raise ValueError(f"queue_limit must be 1 to {_WAITING - 1}")
        slots, whole = self.slots, np.int64
        self.state = State(
            ready_at=np.full(slots, np.inf),
            open=np.zeros(slots, dtype=np.int8),
            ring=np.zeros((slots, _WAITING), dtype=whole),
            head=np.zeros(slots, dtype=whole),
            waiting=np.zeros(slots, dtype=whole),
            batch=np.zeros((slots, self.server.maximum_batch), dtype=whole),
            in_batch=np.zeros(slots, dtype=whole),
            free=np.zeros(slots),
            connections=np.zeros((2, slots), dtype=whole),
            changed=np.zeros((2, slots)),
        )

    def open_slot(self, slot: int, *, ready_at: float) -> None:
        self.state.open[slot], self.state.ready_at[slot] = 1, ready_at

    def close_slot(self, slot: int) -> None:
        """It takes no more requests, and finishes what it has."""
        self.state.open[slot] = 0

    def ready(self, slots: list[int], now: float) -> int:
        return int((self.state.ready_at[slots] <= now).sum())

    @property
    def idle_slots(self) -> list[int]:
        """Closed, and done with all that they had."""
        idle: list[int] = np.flatnonzero(~self._active()).tolist()
        return idle

    def advance(self, until: float, *, slowness: float = 1.0) -> WindowCounts:
        """Plays on to ``until``. ``slowness`` multiplies every compute time."""
        first, last = self._next, int(np.searchsorted(self.requests.arrival, until, side="right"))
        tally = Tally(np.zeros(4, dtype=np.int64), np.zeros(2), np.zeros(BINS, dtype=np.int64))
        active = np.flatnonzero(self._active())
        slots = int(active[-1]) + 1 if len(active) else 0
        _advance(self.requests, first, last, until, self.server, slowness, slots, self.state, tally)
        self._next = last
        return WindowCounts(
            arrivals=last - first,
            answered=int(tally.counts[_ANSWERED]),
            within=int(tally.counts[_WITHIN]),
            shed=int(tally.counts[_SHED]),
            started=int(tally.counts[_STARTED]),
            compute_seconds=float(tally.seconds[_COMPUTE]),
            busy_seconds=float(tally.seconds[_BUSY]),
            histogram=tally.histogram,
        )

    def _active(self) -> NDArray[np.bool_]:
        active: NDArray[np.bool_] = (self.state.open > 0) | (self.state.waiting > 0) | (self.state.in_batch > 0)
        return active


# Below, compiled: types are numba's to find.


@njit(cache=True)
def _advance(requests, first, last, until, server, slowness, slots, state, tally):  # type: ignore[no-untyped-def]
    for request in range(first, last):
        now = requests.arrival[request]
        for slot in range(slots):
            if state.in_batch[slot] > 0 and state.free[slot] <= now:  # who computes nothing has nothing waiting
                _work(slot, now, requests, server, slowness, state, tally)
        slot = _chosen(requests.dispatcher[request], now, slots, state)
        if slot < 0 or state.waiting[slot] >= server.queue_limit:
            tally.counts[_SHED] += 1
            continue
        _connect(requests.dispatcher[request], slot, 1, now, state)
        state.ring[slot, (state.head[slot] + state.waiting[slot]) % _WAITING] = request
        state.waiting[slot] += 1
        _work(slot, now, requests, server, slowness, state, tally)
    for slot in range(slots):
        _work(slot, until, requests, server, slowness, state, tally)


@njit(cache=True)
def _chosen(dispatcher, now, slots, state):  # type: ignore[no-untyped-def]
    """Fewest connections of this balancer; of equals, the one that has had so many for longest. -1: none is ready."""
    best = -1
    connections, changed = state.connections[dispatcher], state.changed[dispatcher]
    for slot in range(slots):
        if state.open[slot] == 0 or state.ready_at[slot] > now:
            continue
        fewer = best < 0 or connections[slot] < connections[best]
        if fewer or (connections[slot] == connections[best] and changed[slot] < changed[best]):
            best = slot
    return best


@njit(cache=True)
def _connect(dispatcher, slot, change, now, state):  # type: ignore[no-untyped-def]
    state.connections[dispatcher, slot] += change
    state.changed[dispatcher, slot] = now


@njit(cache=True)
def _work(slot, now, requests, server, slowness, state, tally):  # type: ignore[no-untyped-def]
    """Batches of this replica that end, and those that start, up to now."""
    while True:
        if state.in_batch[slot] > 0:
            if state.free[slot] > now:
                return
            _finish(slot, requests, server, state, tally)
        if state.waiting[slot] == 0:
            return
        _start(slot, requests, server, slowness, state, tally)


@njit(cache=True)
def _finish(slot, requests, server, state, tally):  # type: ignore[no-untyped-def]
    ended = state.free[slot]
    for place in range(state.in_batch[slot]):
        request = state.batch[slot, place]
        _connect(requests.dispatcher[request], slot, -1, ended, state)
        seconds = ended - requests.arrival[request] + requests.beside_seconds[request]
        tally.counts[_ANSWERED] += 1
        tally.counts[_WITHIN] += seconds <= server.budget_seconds
        bin_ = int(np.log(max(seconds / FIRST_BIN_SECONDS, 1.0)) / np.log(GROWTH))
        tally.histogram[min(bin_, BINS - 1)] += 1
    state.in_batch[slot] = 0


@njit(cache=True)
def _start(slot, requests, server, slowness, state, tally):  # type: ignore[no-untyped-def]
    """As many as wait when the compute thread gets free, up to the maximum."""
    head, size, tokens = state.head[slot], 0, 0
    start = max(state.free[slot], requests.arrival[state.ring[slot, head]])
    while size < server.maximum_batch and size < state.waiting[slot]:
        request = state.ring[slot, (head + size) % _WAITING]
        if requests.arrival[request] > start:
            break
        state.batch[slot, size] = request
        tokens += requests.tokens[request]
        size += 1
    level = requests.level[state.batch[slot, 0]]
    seconds = slowness * server.compute[size - 1, server.bucket_of[tokens // size], level]
    state.head[slot] = (head + size) % _WAITING
    state.waiting[slot] -= size
    state.in_batch[slot] = size
    state.free[slot] = start + seconds
    tally.counts[_STARTED] += size
    tally.seconds[_COMPUTE] += size * seconds
    tally.seconds[_BUSY] += seconds
