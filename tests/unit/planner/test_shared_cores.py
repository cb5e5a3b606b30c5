"""Pods that share cores: against closed forms, and against the simulation without sharing."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cycleops.planner.simulation import fleet, shared
from cycleops.planner.simulation.queues import first_come_first_served
from cycleops.planner.simulation.rules import Handling, Requests, Rules, table_of

Array = NDArray[np.float64]
COUNT = 200_000
LEVELS = 4096


def requests_of(rate: float, *, seed: int = 1, hits: float = 0.0, count: int = COUNT) -> Requests:
    stream = np.random.default_rng(seed)
    arrival = np.cumsum(stream.standard_exponential(count)) / rate
    return Requests(
        arrival=arrival,
        ready=arrival,
        after=np.zeros(count),
        queued=stream.random(count) >= hits,
        tokens=np.full(count, 8),
        level=stream.integers(0, LEVELS, count),
        beside_seconds=np.zeros(count),
        dispatcher=np.zeros(count, dtype=np.int64),
        spread=stream.random(count),
    )


def exponential(mean: float = 1.0) -> Array:
    """A table's only row: equally likely quantiles, with exactly this mean."""
    quantiles: Array = -np.log1p(-(np.arange(LEVELS) + 0.5) / LEVELS)
    return quantiles * mean / quantiles.mean()


def handling(count: int, *, inward: float = 0.0, outward: float = 0.0, aside: float = 0.0) -> Handling:
    return Handling(*(np.full(count, value) for value in (aside, inward, outward, aside)))


def serve(
    requests: Requests, work: Handling, *, replicas: int, pods: int, batch: int = 1, **more: float
) -> shared.SharedServed:
    sizes = 0.4 + 0.6 * np.arange(batch + 1)
    table = table_of((sizes[:, None, None] * exponential()[None, None, :]), np.zeros(8 * batch + 1, dtype=np.int64))
    return shared.on_shared_cores(
        requests=requests,
        handling=work,
        table=table,
        rules=Rules(maximum_batch=batch, delay_seconds=more.get("delay", 0.0)),
        replicas=replicas,
        dispatchers=1,
        load_percent=0,
        pods_per_core=pods,
    )


@pytest.mark.parametrize("rate", [0.3, 0.6])
def test_one_pod_that_only_computes_is_mm1(rate: float) -> None:
    requests = requests_of(rate)
    served = serve(requests, handling(COUNT), replicas=1, pods=1)
    assert (served.leave - requests.arrival).mean() == pytest.approx(1 / (1 - rate), rel=0.02)


def test_many_pods_on_a_core_are_processor_sharing() -> None:
    """With a pod free for each request, the core is M/G/1 with processor sharing: T = S / (1 - load), whatever S is."""
    requests = requests_of(0.6)
    served = serve(requests, handling(COUNT), replicas=40, pods=40)
    assert (served.leave - requests.arrival).mean() == pytest.approx(1 / 0.4, rel=0.02)


def test_handling_goes_before_computing() -> None:
    """M/G/1 of two classes, the first one preemptive and resumed: closed form (L. Kleinrock, volume II, 3.5).

    Here the first class is the requests that the cache answers; their work is constant.
    """
    hits, rate, work = 0.5, 0.8, 0.5
    requests = requests_of(rate, hits=hits)
    inward = np.where(requests.queued, 0.0, work)
    served = serve(requests, handling(COUNT)._replace(inward=inward), replicas=1, pods=1)
    total = served.leave - requests.arrival
    first, second = rate * hits * work, rate * (1 - hits)
    residual_first = rate * hits * work**2 / 2
    residual = residual_first + rate * (1 - hits) * 2 / 2
    assert total[~requests.queued].mean() == pytest.approx(work + residual_first / (1 - first), rel=0.02)
    expected = 1 / (1 - first) + residual / ((1 - first) * (1 - first - second))
    assert total[requests.queued].mean() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("delay", [0.0, 0.7])
def test_cores_to_spare_give_the_schedule_without_sharing(delay: float) -> None:
    """A pod for each core whose requests cost no CPU: batches close as in the simulation by replica."""
    requests = requests_of(1.5, count=20_000)
    served = serve(requests, handling(20_000), replicas=3, pods=1, batch=4, delay=delay)
    sizes = 0.4 + 0.6 * np.arange(5)
    table = table_of((sizes[:, None, None] * exponential()[None, None, :]), np.zeros(33, dtype=np.int64))
    other = fleet.least_connections(
        requests=requests, table=table, rules=Rules(maximum_batch=4, delay_seconds=delay), replicas=3, dispatchers=1
    )
    assert served.start == pytest.approx(other.start)
    assert served.end == pytest.approx(other.start + other.compute)


@pytest.mark.parametrize("load_percent", [None, 0, 150])
def test_a_core_works_whenever_there_is_work(load_percent: int | None) -> None:
    """However pods share it: what it has done at the end, and when it was idle, is that of one server in order."""
    count = 20_000
    requests = requests_of(0.7, count=count)
    seconds = exponential()
    served = shared.on_shared_cores(
        requests=requests,
        handling=handling(count, inward=0.1, outward=0.05),
        table=table_of(np.stack([seconds, seconds])[:, None, :], np.zeros(9, dtype=np.int64)),
        rules=Rules(maximum_batch=1, delay_seconds=0.0),
        replicas=3,
        dispatchers=1,
        load_percent=load_percent,
        pods_per_core=3,
    )
    work = seconds[requests.level] + 0.15
    start = first_come_first_served(arrival=requests.arrival, service=work)
    assert served.busy_seconds == pytest.approx(work.sum())
    idle_from = (start + work)[:-1][start[1:] == requests.arrival[1:]]
    assert np.isin(np.round(idle_from, 6), np.round(served.leave, 6)).all()
    assert len(idle_from) > 1000


def test_what_no_core_waits_for_is_only_added() -> None:
    requests = requests_of(0.2, count=2_000)
    near = serve(requests, handling(2_000, inward=0.1), replicas=1, pods=1)
    far = serve(requests, handling(2_000, inward=0.1, aside=3.0), replicas=1, pods=1)
    assert far.leave == pytest.approx(near.leave + 6.0)
