"""Makes the :class:`Attainment` of a plan by simulation: every number of replicas at every load, once."""

import math

import numpy as np

from cycleops.planner.adaptation.attainment import Attainment
from cycleops.planner.model import Algorithm, HardwareOption, Settings, Workload
from cycleops.planner.service_time import ServiceTimes, heaviness
from cycleops.planner.simulate import Outcome, Shape, Station, simulate
from cycleops.planner.traffic import Draws, draw

LOADS = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.58, 0.66, 0.72, 0.78, 0.83, 0.88, 0.92, 0.96)
# Of the plan's budget, from a third to three times: as far as the correction goes (correction.BOUND), and one more.
_EACH_UP_TO = 16  # replicas; beyond, numbers that are a quarter apart
BUDGETS = tuple(float(f) for f in np.geomspace(1 / 3, 3, 25))


def tabulate(
    *,
    times: ServiceTimes,
    hardware: HardwareOption,
    workload: Workload,
    budget_milliseconds: float,
    batch_size: int,
    delay_milliseconds: float,
    maximum_replicas: int,
    workers: int = 1,
    algorithm: Algorithm = Algorithm.LEAST_CONNECTIONS,
    settings: Settings | None = None,
    seed: int = 0,
) -> Attainment:
    """Of the workload only lengths, burstiness and cache count; the rate is what is varied.

    ``workers``: of each replica; as in the planner, each has a queue of its own. ``len(LOADS)`` simulations for each of
    ``sizes``: run it in a thread, when the plan changes.
    """
    settings = settings or Settings()
    draws = draw(workload=workload, requests=settings.requests, dispatchers=settings.dispatchers, seed=seed)
    capacity = (
        workers * batch_size / _full_batch_seconds(times, draws, batch_size) / (1 - workload.cache_hit_ratio_lower)
    )
    # Under a CPU limit the stalls of the saturated rows are the simulation's own doing: the paced rows hold.
    heavy = [0.0 if hardware.cpu_limit_cores is not None else heaviness(load) for load in LOADS]
    stations = {one: _station(times, hardware, draws, settings, batch_size, one) for one in set(heavy)}
    limits = np.array(BUDGETS) * budget_milliseconds / 1000
    share, compute, counted = [], [], sizes(maximum_replicas)
    for replicas in counted:
        shape = Shape(
            replicas=replicas * workers,
            maximum_batch=batch_size,
            delay_seconds=delay_milliseconds / 1000 if batch_size > 1 else 0.0,
            algorithm=algorithm,
            dispatchers=settings.dispatchers,
        )
        outcomes = [
            simulate(
                draws=draws,
                station=stations[pace],
                shape=shape,
                rate_per_second=load * replicas * capacity,
                hit_ratio=workload.cache_hit_ratio_lower,
            )
            for load, pace in zip(LOADS, heavy, strict=True)
        ]
        rows = np.array([_shares(outcome, limits) for outcome in outcomes])
        # More load is never better, and a longer budget never worse: what says otherwise is noise.
        rows = np.minimum.accumulate(rows, axis=0)
        share.append(tuple(tuple(row) for row in rows.tolist()))
        compute.append(tuple(float(outcome.compute.mean()) for outcome in outcomes))
    return Attainment(
        capacity_per_second=capacity,
        sizes=counted,
        loads=LOADS,
        budgets=BUDGETS,
        share=tuple(share),
        compute_seconds=tuple(compute),
    )


def sizes(maximum_replicas: int) -> tuple[int, ...]:
    """Numbers of replicas that are simulated: each of the small ones, then so many that 1,000 are 35 of them."""
    found = list(range(1, min(maximum_replicas, _EACH_UP_TO) + 1))
    while found[-1] < maximum_replicas:
        found.append(min(math.ceil(found[-1] * 1.25), maximum_replicas))
    return tuple(found)


def _shares(outcome: Outcome, limits_seconds: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
    ordered = np.sort(outcome.total)
    shares: list[float] = (np.searchsorted(ordered, limits_seconds, side="right") / len(ordered)).tolist()
    return shares


def _full_batch_seconds(times: ServiceTimes, draws: Draws, batch_size: int) -> float:
    by_bucket = times.mean_compute_seconds(batch_size=batch_size, lengths=draws.bucket_lengths, heavy=1.0)
    return float(by_bucket[draws.bucket].mean())


def _station(
    times: ServiceTimes, hardware: HardwareOption, draws: Draws, settings: Settings, batch_size: int, heavy: float
) -> Station:
    lengths = draws.bucket_lengths
    return Station(
        compute=times.table(lengths=lengths, bucket_of=draws.bucket_of, maximum_batch=batch_size, heavy=heavy),
        pre=times.pre_table(lengths=lengths, heavy=heavy),
        post=times.post_levels(heavy=heavy),
        overhead=times.overhead,
        cache_hit=times.cache_hit,
        balancer_overhead_seconds=settings.balancer_overhead_seconds,
        quota_seconds=hardware.quota_seconds,
        threads=hardware.threads,
    )
