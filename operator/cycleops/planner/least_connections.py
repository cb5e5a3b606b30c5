"""Least connections: which replica a request goes to depends on what has finished, so the replicas run together."""

import heapq
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.batching import Lengths, Served, Table

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
_ONE = 1 << 40  # a connection; below it, the turn at which the dispatcher last chose the replica
_START = -1  # in an event: the replica starts a batch; otherwise the dispatcher that gets an answer


@dataclass(slots=True)
class _Replica:
    """``waiting`` is a heap of (ready, request)."""

    waiting: list[tuple[float, int]] = field(default_factory=list)
    free: float = 0.0
    scheduled: float = math.inf

    def next_start(self, maximum_batch: int, delay_seconds: float) -> float:
        """When the next batch starts if nothing else arrives."""
        if not self.waiting:
            return math.inf
        oldest = self.waiting[0][0]
        start = max(oldest, self.free)
        if not delay_seconds or maximum_batch == 1:
            return start
        deadline = oldest + delay_seconds
        if len(self.waiting) >= maximum_batch:
            full = heapq.nsmallest(maximum_batch, self.waiting)[-1][0]
            deadline = min(deadline, full)
        return max(start, deadline)

    def take(self, now: float, maximum_batch: int) -> list[int]:
        batch: list[int] = []
        while self.waiting and len(batch) < maximum_batch and self.waiting[0][0] <= now:
            batch.append(heapq.heappop(self.waiting)[1])
        return batch


class Dispatch:
    """Independent dispatchers, each of which sees only its own connections, over replicas that batch.

    Ties go to the replica that the dispatcher has not used for the longest time, as in HAProxy.
    """

    def __init__(self, *, replicas: int, dispatchers: int, maximum_batch: int, delay_seconds: float, table: Table):
        self._replicas = [_Replica() for _ in range(replicas)]
        self._keys = [list(range(replicas)) for _ in range(dispatchers)]
        self._events: list[tuple[float, int, int]] = []
        self._batch, self._delay, self._table = maximum_batch, delay_seconds, table
        self._busy, self._batches = 0.0, 0

    def run(
        self, *, arrival: Array, ready: Array, after: Array, dispatcher: Indices, lengths: Lengths, level: Indices,
        queued: NDArray[np.bool_],
    ) -> Served:  # fmt: skip
        """``after``: seconds from the end of compute (or, if not ``queued``, from ready) to the answer's arrival."""
        self._tokens, self._bucket_of = lengths.tokens.tolist(), lengths.bucket_of.tolist()
        self._level = level.tolist()
        self._after, self._dispatcher = after.tolist(), dispatcher.tolist()
        self._start, self._compute = [0.0] * len(arrival), [0.0] * len(arrival)
        ready_at, in_queue = ready.tolist(), queued.tolist()
        events = self._events
        for request, now in enumerate(arrival.tolist()):
            while events and events[0][0] <= now:
                self._step()
            chooser = self._dispatcher[request]
            keys = self._keys[chooser]
            chosen = keys.index(min(keys))
            keys[chosen] = (keys[chosen] // _ONE + 1) * _ONE + len(keys) + request
            if in_queue[request]:
                replica = self._replicas[chosen]
                heapq.heappush(replica.waiting, (ready_at[request], request))
                self._schedule(chosen, replica)
            else:
                heapq.heappush(events, (ready_at[request] + self._after[request], chosen, chooser))
        while events:
            self._step()
        return Served(
            start=np.array(self._start),
            compute=np.array(self._compute),
            busy_seconds=self._busy,
            batches=self._batches,
        )

    def _schedule(self, index: int, replica: _Replica) -> None:
        start = replica.next_start(self._batch, self._delay)
        if start < replica.scheduled:
            replica.scheduled = start
            heapq.heappush(self._events, (start, index, _START))

    def _step(self) -> None:
        now, index, chooser = heapq.heappop(self._events)
        if chooser != _START:
            self._keys[chooser][index] -= _ONE
            return
        replica = self._replicas[index]
        if now != replica.scheduled:
            return  # a request that came later moved the start forward
        batch = replica.take(now, self._batch)
        bucket = self._bucket_of[sum(self._tokens[request] for request in batch) // len(batch)]
        service = self._table[len(batch)][bucket][self._level[batch[0]]]
        replica.free = now + service
        self._busy += service
        self._batches += 1
        for request in batch:
            self._start[request] = now
            self._compute[request] = service
            heapq.heappush(self._events, (replica.free + self._after[request], index, self._dispatcher[request]))
        replica.scheduled = math.inf
        self._schedule(index, replica)
