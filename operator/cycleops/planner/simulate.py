"""Simulation of the data path: dispatchers -> replicas (sidecar, tokenizer, batch queue, compute).

T of a request = balancer and transport + pre + queue + compute + post. Pre and post run beside the compute thread.
Half of the overhead lies before the queue and half after the answer. A cache hit leaves at the sidecar.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.model import Algorithm
from cycleops.planner.simulation import fleet
from cycleops.planner.simulation.queues import Served
from cycleops.planner.simulation.rules import Handling, Requests, Rules, Table
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

    @classmethod
    def of(cls, *, draws: Draws, station: Station, hit_ratio: float) -> "Path":
        return cls(
            hit=draws.cache_luck < hit_ratio,
            overhead=station.overhead[draws.overhead] + station.balancer_overhead_seconds,
            pre=station.pre[draws.bucket, draws.pre],
            post=station.post[draws.post],
            hit_time=station.cache_hit[draws.cache_hit] + station.balancer_overhead_seconds,
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Seconds per request after the warm-up: T of all requests, terms of those that the cache did not answer.

    ``settled``, as ``total``: whose batch had started when the last request came. More requests would change no such T.
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
    settled: NDArray[np.bool_]


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
    path = Path.of(draws=draws, station=station, hit_ratio=hit_ratio)
    arrival = np.cumsum(draws.gaps) / rate_per_second
    warm = math.ceil(WARM_UP_SHARE * draws.count) if warm_up is None else warm_up
    if station.pods_per_core:
        return _on_shared_cores(draws, path, station, shape, arrival, warm)
    miss = ~path.hit
    ready = arrival + np.where(miss, path.overhead / 2 + path.pre, path.hit_time)
    after = np.where(miss, path.post + path.overhead / 2, 0.0)
    requests = _requests(draws, path, shape, arrival, ready=ready, after=after)
    served = _served(requests, station, shape)
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
        utilization=served.busy_seconds / (shape.replicas * float(arrival[-1])),
        mean_batch=float(miss.sum()) / max(served.batches, 1),
        largest_batch=served.largest_batch,
        warm_up=warm,
        settled=(path.hit | (served.start <= arrival[-1]))[warm:],
    )


def _on_shared_cores(draws: Draws, path: Path, station: Station, shape: Shape, arrival: Array, warm: int) -> Outcome:
    """As :func:`simulate`, where HTTP, pre, post and the batches of ``pods_per_core`` replicas take turns on a core.

    Half of the CPU time that the overhead takes lies before the queue, and half of what it waits for else.
    """
    miss, count = ~path.hit, draws.count
    outside = np.where(miss, path.overhead, path.hit_time)
    cpu = np.minimum(np.where(miss, station.overhead_cpu_seconds, station.cache_hit_cpu_seconds), outside)
    aside = (outside - cpu) / 2
    handling = Handling(
        before=aside,
        inward=np.where(miss, cpu / 2 + path.pre, cpu),
        outward=np.where(miss, cpu / 2 + path.post, 0.0),
        after=aside,
    )
    nothing = np.zeros(count)
    served = fleet.on_shared_cores(
        requests=_requests(draws, path, shape, arrival, ready=nothing, after=nothing),
        handling=handling,
        table=station.compute,
        rules=Rules(maximum_batch=shape.maximum_batch, delay_seconds=float(shape.delay_seconds)),
        replicas=shape.replicas,
        dispatchers=shape.dispatchers,
        load_percent=_LOAD_PERCENT.get(shape.algorithm, shape.hash_load_percent),
        pods_per_core=station.pods_per_core,
    )
    total = served.leave - arrival
    keep = np.flatnonzero(miss[warm:]) + warm
    queue, compute = (served.start - served.ready)[keep], (served.end - served.start)[keep]
    return Outcome(
        total=total[warm:],
        pre=path.pre[keep],
        queue=queue,
        compute=compute,
        post=path.post[keep],
        overhead=total[keep] - path.pre[keep] - queue - compute - path.post[keep],
        utilization=served.busy_seconds / (served.cores * float(arrival[-1])),
        mean_batch=float(miss.sum()) / max(served.batches, 1),
        largest_batch=served.largest_batch,
        warm_up=warm,
        settled=(served.leave <= arrival[-1])[warm:],
    )


# Of fleet.on_shared_cores; consistent hashing has its own.
_LOAD_PERCENT = {Algorithm.ROUND_ROBIN: None, Algorithm.LEAST_CONNECTIONS: 0}


def _requests(draws: Draws, path: Path, shape: Shape, arrival: Array, *, ready: Array, after: Array) -> Requests:
    return Requests(
        arrival=arrival,
        ready=ready,
        after=after,
        queued=~path.hit,
        tokens=draws.tokens,
        level=draws.compute,
        beside_seconds=path.pre + path.post,
        dispatcher=draws.dispatcher % shape.dispatchers,
        spread=draws.spread,
    )


def _served(requests: Requests, station: Station, shape: Shape) -> Served:
    rules = Rules(
        maximum_batch=shape.maximum_batch,
        delay_seconds=float(shape.delay_seconds),
        quota_seconds=float(station.quota_seconds),
        threads=float(station.threads),
    )
    spread: Callable[..., Served]
    if shape.replicas == 1 or shape.algorithm is Algorithm.ROUND_ROBIN:
        spread = fleet.round_robin
    elif shape.algorithm is Algorithm.LEAST_CONNECTIONS:
        spread = fleet.least_connections
    else:
        spread = partial(fleet.consistent_hash, load_percent=shape.hash_load_percent)
    return spread(
        requests=requests, table=station.compute, rules=rules, replicas=shape.replicas, dispatchers=shape.dispatchers
    )
