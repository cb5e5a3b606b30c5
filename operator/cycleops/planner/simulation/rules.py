"""What the compiled loops take. NamedTuples, since those are what numba knows; arrays are C-contiguous.

Times are seconds of one simulated clock.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

QUOTA_PERIOD_SECONDS = 0.1  # cpu.cfs_period_us, as Kubernetes sets it
RING_POINTS = 16  # of one server of weight 1 in HAProxy's consistent hash


class Table(NamedTuple):
    """Seconds that a batch computes, by its size, the bucket of its mean length, and a level of luck.

    ``law[size, bucket] * (ratio[left, bucket, level] * (1 - share) + ratio[left + 1, ...] * share)``, with ``left`` and
    ``share`` by size: a law times what was measured over it, between the measured sizes linearly.
    """

    ratio: Array  # [measured size, bucket, level]
    law: Array  # [size, bucket]; row 0 is not used
    left: Indices  # [size]
    share: Array  # [size]
    bucket_of: Indices  # [tokens] -> bucket


class Rules(NamedTuple):
    """Of one replica. A batch closes when the compute thread is free and it is full or its oldest has waited.

    ``quota_seconds``: CPU time in each QUOTA_PERIOD_SECONDS that a CPU limit leaves, 0 for none; computing takes
    ``threads`` CPU seconds a second of it.
    """

    maximum_batch: int
    delay_seconds: float
    quota_seconds: float = 0.0
    threads: float = 1.0


class Machines(NamedTuple):
    """Replicas that may differ, one entry for each: their rules, as in Rules, and where their tables begin.

    ``kind``: the row of Requests that holds for it. ``base``: the row of its size 0 in the joined table
    (:func:`joined`).
    """

    kind: Indices
    base: Indices
    maximum_batch: Indices
    delay_seconds: Array
    quota_seconds: Array
    threads: Array


class Requests(NamedTuple):
    """Arrays with one entry per request, in order of arrival. ``level`` is the luck of a batch that this one leads.

    ``ready``, ``after`` and ``beside_seconds`` depend on the kind of replica: [kind, request], or [request] where all
    replicas are of one kind.
    """

    arrival: Array
    ready: Array  # tokenized, at the queue
    after: Array  # from the end of compute (or from ready, if not queued) to the answer
    queued: NDArray[np.bool_]  # False: the cache answers
    tokens: Indices
    level: Indices
    beside_seconds: Array  # CPU time that pre, post and the sidecar take of the quota
    dispatcher: Indices  # the balancer that it comes through
    spread: Array  # 0 to 1: its place on the ring of consistent hashing


class Handling(NamedTuple):
    """What a core that pods share must do for requests beside computing. Arrays with one entry per request, seconds.

    ``inward``, ``outward``: CPU time from the first byte to the queue (of a cache's answer: all of it), and from the
    end of computing to the last byte. ``before``, ``after``: from the balancer to the core and back; no core works on
    that.
    """

    before: Array
    inward: Array
    outward: Array
    after: Array


class Patience(NamedTuple):
    """When to give a simulation up: so many late answers of one class are more than its percentile allows.

    ``late_after``: when each answer must have left. ``traffic``: the class of each request. ``spare``: how many of each
    class may still be late; counted down by the loops, and below 0 they stop.
    """

    late_after: Array
    traffic: Indices
    spare: Indices


def endless(count: int) -> Patience:
    """That of a simulation which runs to its end."""
    return Patience(np.full(count, np.inf), np.zeros(count, dtype=np.int64), np.zeros(1, dtype=np.int64))


class Ring(NamedTuple):
    """Points of consistent hashing in rising order, and the replica that each belongs to."""

    position: Array
    owner: Indices


def table_of(seconds: Array, bucket_of: Indices) -> Table:
    """A table that holds ``seconds[size, bucket, level]`` as it is; row 0 is not used."""
    sizes = seconds.shape[0]
    return Table(
        ratio=np.ascontiguousarray(seconds, dtype=np.float64),
        law=np.ones(seconds.shape[:2]),
        left=np.minimum(np.arange(sizes), max(sizes - 2, 0)),
        share=np.array([0.0] * (sizes - 1) + [1.0 if sizes > 1 else 0.0]),
        bucket_of=np.ascontiguousarray(bucket_of, dtype=np.int64),
    )


def joined(tables: Sequence[Table]) -> tuple[Table, list[int]]:
    """One table for replicas of several kinds, and the row at which each kind's sizes begin. Buckets must be shared."""
    if len(tables) == 1:
        return tables[0], [0]
    sizes = np.cumsum([0, *(len(table.left) for table in tables)])
    measured = np.cumsum([0, *(len(table.ratio) for table in tables)])
    together = Table(
        ratio=np.concatenate([table.ratio for table in tables]),
        law=np.concatenate([table.law for table in tables]),
        left=np.concatenate([table.left + start for table, start in zip(tables, measured, strict=False)]),
        share=np.concatenate([table.share for table in tables]),
        bucket_of=tables[0].bucket_of,
    )
    return together, sizes[:-1].tolist()


def alike(rules: Rules, replicas: int) -> Machines:
    """So many replicas of one kind."""
    return machines([(rules, replicas)], [0])


def machines(groups: Sequence[tuple[Rules, int]], bases: Sequence[int]) -> Machines:
    """Replicas group by group: the rules of each, how many there are, and where its table begins."""

    def each(values: Iterable[float]) -> Array:
        pairs = zip(values, groups, strict=True)
        return np.array([value for value, (_, count) in pairs for _ in range(count)], dtype=np.float64)

    def whole(values: Iterable[int]) -> Indices:
        pairs = zip(values, groups, strict=True)
        return np.array([value for value, (_, count) in pairs for _ in range(count)], dtype=np.int64)

    return Machines(
        kind=whole(range(len(groups))),
        base=whole(bases),
        maximum_batch=whole([rules.maximum_batch for rules, _ in groups]),
        delay_seconds=each([rules.delay_seconds for rules, _ in groups]),
        quota_seconds=each([rules.quota_seconds for rules, _ in groups]),
        threads=each([rules.threads for rules, _ in groups]),
    )
