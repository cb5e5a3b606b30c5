"""Queues of theory in the simulator: no overhead, no tokenizing, service as told."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.histograms import LEVELS
from cycleops.planner.model import Algorithm, Workload
from cycleops.planner.simulate import Outcome, Shape, Station, simulate
from cycleops.planner.simulation.rules import Table, table_of
from cycleops.planner.traffic import Draws, draw

Array = NDArray[np.float64]
NOTHING = np.zeros(LEVELS)


def exponential_levels(mean_seconds: float, *, levels: int = LEVELS) -> Array:
    """The mean of an exponential variable within each of so many equally likely parts."""
    edges = np.arange(levels + 1) / levels
    left = 1 - edges
    # Integral of -log(1 - u) from 0 to u is (1 - u) log(1 - u) + u.
    integral = np.where(left > 0, left * np.log(np.where(left > 0, left, 1)), 0) + edges
    means: Array = np.diff(integral) * levels * mean_seconds
    return means


def table(service: Array | Callable[[int], Array], *, maximum_batch: int) -> Table:
    """``service``: levels of one request's time, or a function from batch size to levels."""
    of_size = service if callable(service) else lambda _size: service
    levels = np.array([of_size(max(size, 1)) for size in range(maximum_batch + 1)])
    return table_of(levels[:, None, :], np.zeros(9, dtype=np.int64))


def draws(*, requests: int, cv2: float = 1.0, dispatchers: int = 1, seed: int = 1) -> Draws:
    workload = Workload(rate_per_second=1.0, input_tokens_p50=8, input_tokens_p99=8, burstiness_cv2=cv2)
    return draw(workload=workload, requests=requests, dispatchers=dispatchers, seed=seed)


def run(
    *,
    service: Array | Callable[[int], Array],
    rate: float,
    requests: int,
    replicas: int = 1,
    maximum_batch: int = 1,
    delay_seconds: float = 0.0,
    algorithm: Algorithm = Algorithm.ROUND_ROBIN,
    dispatchers: int = 1,
    cv2: float = 1.0,
    seed: int = 1,
) -> Outcome:
    station = Station(
        compute=table(service, maximum_batch=maximum_batch),
        pre=NOTHING[None, :],
        post=NOTHING,
        overhead=NOTHING,
        cache_hit=NOTHING,
        balancer_overhead_seconds=0.0,
    )
    shape = Shape(
        replicas=replicas,
        maximum_batch=maximum_batch,
        delay_seconds=delay_seconds,
        algorithm=algorithm,
        dispatchers=dispatchers,
    )
    numbers = draws(requests=requests, cv2=cv2, dispatchers=dispatchers, seed=seed)
    return simulate(draws=numbers, station=station, shape=shape, rate_per_second=rate)
