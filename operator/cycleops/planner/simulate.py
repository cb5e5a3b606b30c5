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
from cycleops.planner.simulation.rules import Requests, Rules, Table
from cycleops.planner.traffic import Draws

Array = NDArray[np.float64]
WARM_UP_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Station:
    """Times in seconds of one replica and the way to it. Buckets and levels are those of traffic.Draws.

    ``quota_seconds``, ``threads``: of a CPU limit, as in simulation.rules; its times must then be of paced rows.
    """

    compute: Table
    pre: Array  # [length bucket, level]
    post: Array  # [level]
    overhead: Array  # [level]
    cache_hit: Array  # [level]
    balancer_overhead_seconds: float
    quota_seconds: float = 0.0
    threads: float = 1.0


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
    miss = ~path.hit
    ready = arrival + np.where(miss, path.overhead / 2 + path.pre, path.hit_time)
    requests = Requests(
        arrival=arrival,
        ready=ready,
        after=np.where(miss, path.post + path.overhead / 2, 0.0),
        queued=miss,
        tokens=draws.tokens,
        level=draws.compute,
        beside_seconds=path.pre + path.post,
        dispatcher=draws.dispatcher % shape.dispatchers,
        spread=draws.spread,
    )
    served = _served(requests, station, shape)
    queue = served.start - ready
    total = np.where(miss, path.overhead + path.pre + queue + served.compute + path.post, path.hit_time)
    warm = math.ceil(WARM_UP_SHARE * draws.count) if warm_up is None else warm_up
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
