"""Discrete-event simulation of the data path: dispatchers -> replicas (sidecar, tokenizer, batch queue, compute).

T of a request = balancer and transport + pre + queue + compute + post. Pre and post run beside the compute thread.
Half of the overhead lies before the queue and half after the answer. A cache hit leaves at the sidecar.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.batching import Lengths, Served, Table, serve
from cycleops.planner.least_connections import Dispatch
from cycleops.planner.model import Algorithm
from cycleops.planner.traffic import Draws

Array = NDArray[np.float64]
WARM_UP_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Station:
    """Times in seconds of one replica and the way to it. Buckets and levels are those of traffic.Draws."""

    compute: Table
    pre: Array  # [length bucket, level]
    post: Array  # [level]
    overhead: Array  # [level]
    cache_hit: Array  # [level]
    balancer_overhead_seconds: float


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is simulated: the choice that the planner makes."""

    replicas: int
    maximum_batch: int
    delay_seconds: float
    algorithm: Algorithm
    dispatchers: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Seconds per request after the warm-up: T of all requests, terms of those that the cache did not answer."""

    total: Array
    pre: Array
    queue: Array
    compute: Array
    post: Array
    overhead: Array
    utilization: float
    mean_batch: float


def simulate(*, draws: Draws, station: Station, shape: Shape, rate_per_second: float) -> Outcome:
    """Requests arrive at ``rate_per_second``; the draws say in which rhythm, how long they are and how they fare."""
    arrival = np.cumsum(draws.gaps) / rate_per_second
    miss = ~draws.hit
    overhead = station.overhead[draws.overhead] + station.balancer_overhead_seconds
    pre, post = station.pre[draws.bucket, draws.pre], station.post[draws.post]
    hit_time = station.cache_hit[draws.cache_hit] + station.balancer_overhead_seconds
    ready = np.where(miss, arrival + overhead / 2 + pre, arrival + hit_time)
    after = np.where(miss, post + overhead / 2, 0.0)
    if shape.algorithm is Algorithm.LEAST_CONNECTIONS and shape.replicas > 1:
        served = _together(draws, station, shape, arrival, ready, after)
    else:
        served = _apart(draws, station, shape, ready)
    queue = served.start - ready
    total = np.where(miss, overhead + pre + queue + served.compute + post, hit_time)
    warm = np.arange(draws.count) >= WARM_UP_SHARE * draws.count
    keep = warm & miss
    horizon = float(arrival[-1])
    return Outcome(
        total=total[warm],
        pre=pre[keep],
        queue=queue[keep],
        compute=served.compute[keep],
        post=post[keep],
        overhead=overhead[keep],
        utilization=served.busy_seconds / (shape.replicas * horizon),
        mean_batch=float(miss.sum()) / max(served.batches, 1),
    )


def _together(draws: Draws, station: Station, shape: Shape, arrival: Array, ready: Array, after: Array) -> Served:
    dispatch = Dispatch(
        replicas=shape.replicas,
        dispatchers=shape.dispatchers,
        maximum_batch=shape.maximum_batch,
        delay_seconds=shape.delay_seconds,
        table=station.compute,
    )
    return dispatch.run(
        arrival=arrival,
        ready=ready,
        after=after,
        dispatcher=draws.dispatcher % shape.dispatchers,
        lengths=_lengths(draws),
        level=draws.compute,
        queued=~draws.hit,
    )


def _apart(draws: Draws, station: Station, shape: Shape, ready: Array) -> Served:
    """Where a request goes does not depend on the others' fate: each replica is a queue of its own."""
    replica = _assigned(draws, shape)
    lengths, start, compute = _lengths(draws), ready.copy(), np.zeros(draws.count)
    busy, batches = 0.0, 0
    for index in range(shape.replicas):
        chosen = np.flatnonzero((replica == index) & ~draws.hit)
        if not len(chosen):
            continue
        served = serve(
            ready=ready[chosen],
            lengths=lengths.of(chosen),
            level=draws.compute[chosen],
            table=station.compute,
            maximum_batch=shape.maximum_batch,
            delay_seconds=shape.delay_seconds,
        )
        start[chosen], compute[chosen] = served.start, served.compute
        busy += served.busy_seconds
        batches += served.batches
    return Served(start=start, compute=compute, busy_seconds=busy, batches=batches)


def _lengths(draws: Draws) -> Lengths:
    return Lengths(tokens=draws.tokens, bucket=draws.bucket, bucket_of=draws.bucket_of)


def _assigned(draws: Draws, shape: Shape) -> NDArray[np.int64]:
    """Round robin: each dispatcher in its own order. Consistent hash: keys fall evenly, without the load bound."""
    if shape.replicas == 1:
        return np.zeros(draws.count, dtype=np.int64)
    if shape.algorithm is Algorithm.CONSISTENT_HASH:
        return (draws.spread * shape.replicas).astype(np.int64)
    replica = np.zeros(draws.count, dtype=np.int64)
    for chooser in range(shape.dispatchers):
        own = np.flatnonzero(draws.dispatcher % shape.dispatchers == chooser)
        replica[own] = (np.arange(len(own)) + chooser) % shape.replicas
    return replica
