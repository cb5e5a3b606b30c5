"""Replays arrivals against a service whose replicas come and go: batch queues behind two balancers, request by request.

The planner's simulator answers for one rate and a fixed number of replicas. Here both change while it runs, and a
controller may look at what was measured so far. The model is the planner's (least connections per balancer, a batch
closes when the compute thread is free, T = overhead + pre + queue + compute + post); tests hold the two together.

A window's numbers are of requests *answered* in it: nothing that a controller reads lies in its future.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
BINS = 600
FIRST_BIN_SECONDS = 1e-3
GROWTH = 1.02
_WAITING = 512  # slots of a replica's ring; the queue limit is below
# Columns of the counters.
_ANSWERED, _WITHIN, _SHED, _STARTED = range(4)
_COMPUTE, _BUSY = range(2)


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Of one trace, in order of arrival. ``beside_seconds``: overhead, pre and post, which lie outside the queue."""

    arrival: Array
    level: Indices
    tokens: Indices
    beside_seconds: Array
    dispatcher: Indices


@dataclass(frozen=True, kw_only=True)
class Server:
    """``compute``: seconds by [batch size - 1, length bucket, level]. A full queue refuses at once."""

    compute: Array
    bucket_of: Indices
    maximum_batch: int
    queue_limit: int
    budget_seconds: float

    def __post_init__(self) -> None:
        if not 1 <= self.queue_limit < _WAITING:
            raise ValueError(f"queue_limit must be 1 to {_WAITING - 1}")


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
    """One run. Replica ``i`` takes requests from ``ready_at[i]`` on, and none while ``open[i]`` is 0."""

    requests: Requests
    server: Server
    slots: int
    ready_at: Array = field(init=False)
    open: NDArray[np.int8] = field(init=False)
    _next: int = field(init=False, default=0)
    _state: Any = field(init=False)

    def __post_init__(self) -> None:
        slots, batch = self.slots, self.server.maximum_batch
        self.ready_at = np.full(slots, np.inf)
        self.open = np.zeros(slots, dtype=np.int8)
        self._state = (
            np.zeros((slots, _WAITING), dtype=np.int64),  # ring of waiting requests
            np.zeros((slots, 2), dtype=np.int64),  # its head, its length
            np.zeros((slots, batch), dtype=np.int64),  # the batch that computes
            np.zeros(slots, dtype=np.int64),  # how many are in it
            np.zeros(slots),  # when it is done
            np.zeros((2, slots), dtype=np.int64),  # connections by balancer
            np.zeros((2, slots), dtype=np.int64),  # the turn at which it last chose the replica
            np.zeros(2, dtype=np.int64),
        )

    def advance(self, until: float, *, slowness: float = 1.0) -> WindowCounts:
        """Plays on to ``until``. ``slowness`` multiplies every compute time."""
        asked, server, used = self.requests, self.server, self._used()
        last = int(np.searchsorted(asked.arrival, until, side="right"))
        counts, sums = np.zeros(4, dtype=np.int64), np.zeros(2)
        histogram = np.zeros(BINS, dtype=np.int64)
        _advance(
            asked.arrival, asked.level, asked.tokens, asked.beside_seconds, asked.dispatcher, self._next, last, until,
            server.compute, server.bucket_of, server.maximum_batch, server.queue_limit, server.budget_seconds, slowness,
            self.ready_at[:used], self.open, *self._state, counts, sums, histogram,
        )  # fmt: skip
        arrivals, self._next = last - self._next, last
        return WindowCounts(
            arrivals=arrivals,
            answered=int(counts[_ANSWERED]),
            within=int(counts[_WITHIN]),
            shed=int(counts[_SHED]),
            started=int(counts[_STARTED]),
            compute_seconds=float(sums[_COMPUTE]),
            busy_seconds=float(sums[_BUSY]),
            histogram=histogram,
        )

    def _used(self) -> int:
        """Slots up to the last one that may have work: the loop is over these."""
        counts, in_batch = self._state[1][:, 1], self._state[3]
        busy = np.flatnonzero((self.open > 0) | (counts > 0) | (in_batch > 0))
        return int(busy[-1]) + 1 if len(busy) else 0

    @property
    def idle_slots(self) -> list[int]:
        """Closed, and done with all that they had."""
        counts, in_batch = self._state[1][:, 1], self._state[3]
        idle: list[int] = np.flatnonzero((self.open == 0) & (counts == 0) & (in_batch == 0)).tolist()
        return idle


@njit(cache=True)
def _advance(  # noqa: C901, PLR0913 - one compiled loop
    arrival, level, tokens, beside, dispatcher, first, last, until,
    compute, bucket_of, maximum_batch, queue_limit, budget, slowness,
    ready_at, opened, ring, ends, batch, in_batch, free, connections, turns, turn, counts, sums, histogram,
):  # fmt: skip
    slots = len(ready_at)
    for request in range(first, last + 1):
        now = arrival[request] if request < last else until
        for r in range(slots):
            # Finish and start batches up to now.
            while True:
                if in_batch[r] > 0:
                    if free[r] > now:
                        break
                    for i in range(in_batch[r]):
                        done = batch[r, i]
                        connections[dispatcher[done], r] -= 1
                        seconds = free[r] - arrival[done] + beside[done]
                        counts[0] += 1
                        counts[1] += seconds <= budget
                        place = int(np.log(max(seconds, 1e-3) / 1e-3) / np.log(1.02))
                        histogram[min(place, len(histogram) - 1)] += 1
                    in_batch[r] = 0
                if ends[r, 1] == 0:
                    break
                head = ends[r, 0]
                start = max(free[r], arrival[ring[r, head]])
                size, long = 0, 0
                while size < maximum_batch and size < ends[r, 1]:
                    waiting = ring[r, (head + size) % ring.shape[1]]
                    if arrival[waiting] > start:
                        break
                    batch[r, size] = waiting
                    long += tokens[waiting]
                    size += 1
                service = slowness * compute[size - 1, bucket_of[long // size], level[batch[r, 0]]]
                ends[r, 0] = (head + size) % ring.shape[1]
                ends[r, 1] -= size
                in_batch[r] = size
                free[r] = start + service
                counts[3] += size
                sums[0] += size * service
                sums[1] += service
        if request == last:
            break
        # The balancer's choice: fewest connections of its own, then the one it chose longest ago.
        chooser = dispatcher[request]
        best = -1
        for r in range(slots):
            if opened[r] == 0 or ready_at[r] > now:
                continue
            if best < 0 or connections[chooser, r] < connections[chooser, best] or (
                connections[chooser, r] == connections[chooser, best] and turns[chooser, r] < turns[chooser, best]
            ):  # fmt: skip
                best = r
        if best < 0 or ends[best, 1] >= queue_limit:
            counts[2] += 1
            continue
        turn[chooser] += 1
        turns[chooser, best] = turn[chooser]
        connections[chooser, best] += 1
        ring[best, (ends[best, 0] + ends[best, 1]) % ring.shape[1]] = request
        ends[best, 1] += 1
        if in_batch[best] == 0:  # idle: starts at once, alone
            start = now
            service = slowness * compute[0, bucket_of[tokens[request]], level[request]]
            batch[best, 0] = request
            ends[best, 0] = (ends[best, 0] + 1) % ring.shape[1]
            ends[best, 1] -= 1
            in_batch[best] = 1
            free[best] = start + service
            counts[3] += 1
            sums[0] += service
            sums[1] += service
