"""Simulation of the data path: dispatchers -> replicas (sidecar, tokenizer, batch queue, compute).

T of a request = balancer and transport + pre + queue + compute + post. Pre and post run beside the compute thread.
Half of the overhead lies before the queue and half after the answer. A cache hit leaves at the sidecar.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.model import Algorithm
from cycleops.planner.simulation import fleet
from cycleops.planner.simulation.queues import Served
from cycleops.planner.simulation.rules import Machines, Patience, Requests, Rules, Table, joined, machines
from cycleops.planner.traffic import Draws

Array = NDArray[np.float64]
WARM_UP_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Station:
    """Times in seconds of one replica and the way to it. Buckets and levels are those of traffic.Draws.

    ``quota_seconds``, ``threads``: of a CPU limit, as in simulation.rules; its times must then be of paced rows.
    ``pods_per_core``: 0 when there are cores to spare; else ``overhead_cpu_seconds`` and ``cache_hit_cpu_seconds`` of
    each request are taken from the core that computes.
    """

    compute: Table
    pre: Array  # [length bucket, level]
    post: Array  # [level]
    overhead: Array  # [level]
    cache_hit: Array  # [level]
    balancer_overhead_seconds: float
    quota_seconds: float = 0.0
    threads: float = 1.0
    pods_per_core: int = 0
    overhead_cpu_seconds: float = 0.0
    cache_hit_cpu_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is simulated: the choice that the planner makes."""

    replicas: int
    maximum_batch: int
    delay_seconds: float
    algorithm: Algorithm
    dispatchers: int
    hash_load_percent: int = 150


@dataclass(frozen=True, kw_only=True)
class Path:
    """What of a request's time does not depend on others, per request in seconds."""

    hit: NDArray[np.bool_]
    overhead: Array
    pre: Array
    post: Array
    hit_time: Array
    before: Array  # until it is at the queue, or answered by the cache
    after: Array  # from the end of compute to the answer
    beside: Array  # CPU time of pre and post

    @classmethod
    def of(cls, *, draws: Draws, station: Station, hit_ratio: float) -> "Path":
        hit = draws.cache_luck < hit_ratio
        overhead = station.overhead[draws.overhead] + station.balancer_overhead_seconds
        pre, post = station.pre[draws.bucket, draws.pre], station.post[draws.post]
        hit_time = station.cache_hit[draws.cache_hit] + station.balancer_overhead_seconds
        return cls(
            hit=hit,
            overhead=overhead,
            pre=pre,
            post=post,
            hit_time=hit_time,
            before=np.where(hit, hit_time, overhead / 2 + pre),
            after=np.where(hit, 0.0, post + overhead / 2),
            beside=pre + post,
        )

    @classmethod
    def chosen(cls, paths: Sequence["Path"], kind: NDArray[np.int64]) -> "Path":
        """Of each request that of the group which it was given to."""
        which = np.arange(len(kind))

        def of(name: str) -> Array:
            values: Array = np.stack([getattr(path, name) for path in paths])[kind, which]
            return values

        names = (one.name for one in fields(cls) if one.name != "hit")
        return cls(hit=paths[0].hit, **{name: of(name) for name in names})


@dataclass(frozen=True, kw_only=True)
class Group:
    """Replicas of one kind in a fleet; all groups of a fleet share the buckets of one traffic.Draws."""

    station: Station
    replicas: int
    maximum_batch: int
    delay_seconds: float

    @property
    def rules(self) -> Rules:
        return Rules(
            maximum_batch=self.maximum_batch,
            delay_seconds=float(self.delay_seconds) if self.maximum_batch > 1 else 0.0,
            quota_seconds=float(self.station.quota_seconds),
            threads=float(self.station.threads),
        )


@dataclass(frozen=True, kw_only=True)
class Balancing:
    algorithm: Algorithm
    dispatchers: int
    hash_load_percent: int = 150


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Seconds per request after the warm-up: T of all requests, terms of those that the cache did not answer.

    ``shares``: of the requests, those that each group got. ``start`` of the batch and ``replica`` of each request.
    """

    total: Array
    pre: Array
    queue: Array
    compute: Array
    post: Array
    overhead: Array
    utilization: float
    mean_batch: float
    largest_batch: int
    warm_up: int
    start: Array
    replica: NDArray[np.int64]
    missed: NDArray[np.bool_]  # not answered by the cache
    shares: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, kw_only=True)
class GivenUp:
    """A simulation that was not run to its end: so many late answers are too many, whatever comes later."""

    largest_batch: int


def simulate(
    *,
    draws: Draws,
    station: Station,
    shape: Shape,
    rate_per_second: float,
    hit_ratio: float = 0.0,
    warm_up: int | None = None,
) -> Outcome:
    """Requests arrive at ``rate_per_second``; the draws say in which rhythm, how long they are and how they fare.

    ``warm_up``: requests that are left out in front; WARM_UP_SHARE of them when it is not given.
    """
    group = Group(
        station=station,
        replicas=shape.replicas,
        maximum_batch=shape.maximum_batch,
        delay_seconds=shape.delay_seconds,
    )
    balancing = Balancing(
        algorithm=shape.algorithm, dispatchers=shape.dispatchers, hash_load_percent=shape.hash_load_percent
    )
    paths = [Path.of(draws=draws, station=station, hit_ratio=hit_ratio)]
    requests = requests_of(draws, paths, balancing, np.cumsum(draws.gaps) / rate_per_second)
    outcome = simulate_fleet(requests=requests, groups=[group], paths=paths, balancing=balancing, warm_up=warm_up)
    assert isinstance(outcome, Outcome)  # without patience it runs to its end
    return outcome


def simulate_fleet(
    *,
    requests: Requests,
    groups: Sequence[Group],
    paths: Sequence[Path],
    balancing: Balancing,
    warm_up: int | None = None,
    patience: Patience | None = None,
) -> Outcome | GivenUp:
    """Replicas of several kinds behind the same balancers. ``paths``: of each group, with one hit ratio for all;
    ``requests``: as :func:`requests_of` makes them of these.
    """
    if any(group.station.pods_per_core for group in groups):
        if len(groups) > 1:
            raise ValueError("replicas of several kinds can't be simulated on shared cores")
        from cycleops.planner.shared_cores import simulate_on_shared_cores  # it needs what is here

        return simulate_on_shared_cores(requests, groups[0], paths[0], balancing, warm_up)
    table, bases = joined([group.station.compute for group in groups])
    fleet_of = machines([(group.rules, group.replicas) for group in groups], bases)
    served = _served(requests, table, fleet_of, balancing, patience)
    if served.given_up:
        return GivenUp(largest_batch=served.largest_batch)
    count = len(requests.arrival)
    warm = math.ceil(WARM_UP_SHARE * count) if warm_up is None else warm_up
    kind = fleet_of.kind[served.chosen]
    path = paths[0] if len(paths) == 1 else Path.chosen(paths, kind)
    miss = ~path.hit
    ready = requests.ready[0] if len(paths) == 1 else requests.ready[kind, np.arange(count)]
    queue = served.start - ready
    total = np.where(miss, path.overhead + path.pre + queue + served.compute + path.post, path.hit_time)
    keep = np.flatnonzero(miss[warm:]) + warm
    return Outcome(
        total=total[warm:],
        pre=path.pre[keep],
        queue=queue[keep],
        compute=served.compute[keep],
        post=path.post[keep],
        overhead=path.overhead[keep],
        utilization=served.busy_seconds / (len(fleet_of.kind) * float(requests.arrival[-1])),
        mean_batch=float(miss.sum()) / max(served.batches, 1),
        largest_batch=served.largest_batch,
        warm_up=warm,
        start=served.start[warm:],
        replica=served.chosen[warm:],
        missed=miss[warm:],
        shares=tuple((np.bincount(kind, minlength=len(groups)) / count).tolist()),
    )


def requests_of(draws: Draws, paths: Sequence[Path], balancing: Balancing, arrival: Array) -> Requests:
    """``arrival``: of each request, in seconds."""

    def each(rows: list[Array]) -> Array:
        return rows[0][None] if len(rows) == 1 else np.stack(rows)

    return Requests(
        arrival=arrival,
        ready=each([arrival + path.before for path in paths]),
        after=each([path.after for path in paths]),
        queued=~paths[0].hit,
        tokens=draws.tokens,
        level=draws.compute,
        beside_seconds=each([path.beside for path in paths]),
        dispatcher=draws.dispatcher % balancing.dispatchers,
        spread=draws.spread,
    )


def _served(
    requests: Requests, table: Table, replicas: Machines, balancing: Balancing, patience: Patience | None
) -> Served:
    if len(replicas.kind) == 1 or balancing.algorithm is Algorithm.ROUND_ROBIN:
        return fleet.in_turn(requests, table, replicas, balancing.dispatchers, patience)
    bounded = balancing.algorithm is Algorithm.CONSISTENT_HASH
    percent = balancing.hash_load_percent if bounded else 0
    return fleet.together(requests, table, replicas, balancing.dispatchers, percent, patience)
