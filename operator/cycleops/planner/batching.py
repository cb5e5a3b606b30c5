"""One replica: a queue in order of readiness, batches, one compute thread.

The rule of our server: a batch closes when the compute thread is free and it has ``maximum_batch`` requests or its
oldest has waited ``delay_seconds``. Our engine packs a batch's inputs without padding, so a batch takes as long as one
of so many inputs of their mean length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Table = Mapping[int, Sequence[Sequence[float]]]  # [batch size][length bucket][level] -> seconds


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Of the requests: tokens, the bucket of those, and the bucket of any length (traffic.Draws)."""

    tokens: Indices
    bucket: Indices
    bucket_of: Indices

    def of(self, chosen: Indices) -> "Lengths":
        return Lengths(tokens=self.tokens[chosen], bucket=self.bucket[chosen], bucket_of=self.bucket_of)


@dataclass(frozen=True, kw_only=True)
class Served:
    """Per request: when its batch started and how long that batch computed. ``busy_seconds``, ``batches``: sums."""

    start: Array
    compute: Array
    busy_seconds: float
    batches: int


def serve(
    *, ready: Array, lengths: Lengths, level: Indices, table: Table, maximum_batch: int, delay_seconds: float
) -> Served:
    """``ready``: when each request has been tokenized, in any order; the result is in the same order."""
    order = np.argsort(ready, kind="stable")
    ready, lengths, level = ready[order], lengths.of(order), level[order]
    if maximum_batch == 1:
        start, compute = _one_by_one(ready, np.asarray(table[1])[lengths.bucket, level])
        sizes = len(ready)
        busy = float(compute.sum())
    else:
        starts, services, counts = _batches(ready, lengths, level, table, maximum_batch, delay_seconds)
        start, compute = np.repeat(starts, counts), np.repeat(services, counts)
        sizes, busy = len(counts), float(np.sum(services))
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return Served(start=start[back], compute=compute[back], busy_seconds=busy, batches=sizes)


def _one_by_one(ready: Array, service: Array) -> tuple[Array, Array]:
    """Lindley's recursion without a loop: end_i = max over j <= i of (ready_j + service_j + ... + service_i)."""
    total = np.cumsum(service)
    end = total + np.maximum.accumulate(ready - (total - service))
    return end - service, service


def _batches(
    ready_times: Array, lengths: Lengths, levels: Indices, table: Table, maximum_batch: int, delay_seconds: float
) -> tuple[list[float], list[float], list[int]]:
    ready, level, bucket_of = ready_times.tolist(), levels.tolist(), lengths.bucket_of.tolist()
    tokens = np.concatenate(([0], np.cumsum(lengths.tokens))).tolist()  # up to each request
    count, first, free = len(ready), 0, 0.0
    starts: list[float] = []
    services: list[float] = []
    counts: list[int] = []
    while first < count:
        start = max(ready[first], free)
        end, last = first + 1, min(first + maximum_batch, count)
        while end < last and ready[end] <= start:
            end += 1
        if delay_seconds and end - first < maximum_batch:
            start, end = _wait(ready, first, end, last, start, delay_seconds, maximum_batch)
        bucket = bucket_of[(tokens[end] - tokens[first]) // (end - first)]
        service = table[end - first][bucket][level[first]]
        starts.append(start)
        services.append(service)
        counts.append(end - first)
        free = start + service
        first = end
    return starts, services, counts


def _wait(
    ready: list[float], first: int, end: int, last: int, start: float, delay_seconds: float, maximum_batch: int
) -> tuple[float, int]:
    """The batch is not full at ``start``: until it is, or its oldest has waited long enough."""
    deadline = max(ready[first] + delay_seconds, start)
    while end < last and ready[end] <= deadline:
        end += 1
    if end - first == maximum_batch:
        return max(start, ready[end - 1]), end
    return deadline, end
