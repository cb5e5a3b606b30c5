"""A plan under the arrivals of a trace: percentiles, attainment and utilization by window.

The replicas are the plan's from the start to the end; nothing adapts. Lengths and luck are drawn as for a plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.choice import Choice, Prepared
from cycleops.planner.evaluate import Evaluator
from cycleops.planner.memory import Memory
from cycleops.planner.model import Algorithm, Budget, Candidate, Settings, Workload
from cycleops.planner.outcomes import quantile
from cycleops.planner.result import PlanGroup
from cycleops.planner.simulate import Outcome

Array = NDArray[np.float64]
MAXIMUM_REQUESTS = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Window:
    """``within``: share of its requests whose T is within the budget; of nothing, 1. ``utilization``: busy share of the
    compute threads by the batches that started in it.
    """

    begins_seconds: float
    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    within: float
    utilization: float


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """Of the whole trace. ``latency_ms``: T at the budget's percentile. ``within``: what attainment is called."""

    requests: int
    seconds: float
    percentile: float
    latency_ms: float
    p50_ms: float
    p99_ms: float
    within: float
    utilization: float
    windows: tuple[Window, ...]


def replay(
    *,
    arrivals_seconds: Array,
    workload: Workload,
    budget: Budget,
    groups: Sequence[tuple[Candidate, PlanGroup]],
    window_seconds: float,
    algorithm: Algorithm = Algorithm.LEAST_CONNECTIONS,
    settings: Settings | None = None,
    seed: int = 0,
) -> Replayed:
    """``arrivals_seconds`` rise; of the workload lengths and cache count, not rate and rhythm.

    Raises ValueError on fewer than two arrivals, on more than MAXIMUM_REQUESTS, or on a profile without rows.
    """
    arrival = np.asarray(arrivals_seconds, dtype=np.float64)
    if not 2 <= len(arrival) <= MAXIMUM_REQUESTS:
        raise ValueError(f"a trace must have from 2 to {MAXIMUM_REQUESTS:,} requests, not {len(arrival):,}")
    if window_seconds <= 0 or (np.diff(arrival) < 0).any() or arrival[-1] <= arrival[0]:
        raise ValueError("arrivals must rise over time, and the window be above 0 seconds")
    number = ((arrival - arrival[0]) // window_seconds).astype(np.int64)
    counts = np.bincount(number)
    seen = float((counts**2).sum() / counts.sum() / window_seconds)  # the rate around a request
    memory = Memory()
    evaluator = Evaluator(
        workload=replace(workload, rate_per_second=seen, rhythm=None),
        percentile=budget.percentile,
        algorithm=algorithm,
        settings=settings or Settings(),
        seed=seed,
        memory=memory,
        count=len(arrival),
    )
    fleet = [
        (
            Prepared(candidate=candidate, times=memory.times(candidate.profile), accuracy=None),
            Choice(
                batch_size=group.batch_size,
                delay_seconds=group.delay_milliseconds / 1000,
                replicas=group.replicas,
            ),
        )
        for candidate, group in groups
    ]
    outcome = evaluator.replayed(fleet, arrival - arrival[0], hit_ratio=workload.expected_hit_ratio)
    replicas = sum(group.replicas for _, group in groups)
    return _told(outcome, number, window_seconds, replicas, budget)


def _told(
    outcome: Outcome, number: NDArray[np.int64], window_seconds: float, replicas: int, budget: Budget
) -> Replayed:
    late = 1000 * outcome.total > budget.latency_milliseconds
    order = np.argsort(number, kind="stable")
    bounds = np.searchsorted(number[order], np.arange(number[-1] + 2))
    busy = _busy_seconds(outcome, window_seconds, len(bounds) - 1)
    windows = []
    for index, (first, last) in enumerate(zip(bounds, bounds[1:], strict=False)):
        own, count = outcome.total[first:last], int(last - first)
        windows.append(
            Window(
                begins_seconds=index * window_seconds,
                requests=count,
                requests_per_second=count / window_seconds,
                p50_ms=1000 * quantile(own, 0.5),
                p99_ms=1000 * quantile(own, 0.99),
                within=1.0 - float(late[first:last].mean()) if count else 1.0,
                utilization=float(busy[index]) / window_seconds / replicas,
            )
        )
    return Replayed(
        requests=len(number),
        seconds=len(windows) * window_seconds,
        percentile=budget.percentile,
        latency_ms=1000 * quantile(outcome.total, budget.percentile / 100),
        p50_ms=1000 * quantile(outcome.total, 0.5),
        p99_ms=1000 * quantile(outcome.total, 0.99),
        within=1.0 - float(late.mean()),
        utilization=outcome.utilization,
        windows=tuple(windows),
    )


def _busy_seconds(outcome: Outcome, window_seconds: float, windows: int) -> Array:
    """Of each window, by the batches that start in it: the requests of one batch share its start and replica."""
    missed = outcome.missed
    batches = np.unique(np.stack([outcome.replica[missed], outcome.start[missed], outcome.compute]), axis=1)
    number = np.minimum((batches[1] // window_seconds).astype(np.int64), windows - 1)
    seconds: Array = np.bincount(number, weights=batches[2], minlength=windows).astype(np.float64)
    return seconds
