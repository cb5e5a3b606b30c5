"""From a simulation's outcome to what is said of it: percentiles, their intervals, the band of errors."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.model import Workload
from cycleops.planner.result import ClassPrediction, Prediction, Term
from cycleops.planner.simulate import Outcome
from cycleops.planner.simulation import intervals

Array = NDArray[np.float64]
HISTOGRAM_ERROR = 0.01  # cycle_wire.profile: a bucket's middle is within 1 % of what is in it


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """What the search compares choices by, in milliseconds; the whole prediction is made for those that it shows."""

    percentile: float
    sized_at_ms: float
    p99_ms: float
    queue_p99_ms: float
    compute_p99_ms: float
    utilization: float
    largest_batch: int


@dataclass(frozen=True, kw_only=True)
class Target:
    """A percentile of the requests of one class (all of them without classes), and what their latency is divided by."""

    traffic: int | None  # the class
    name: str
    requests: NDArray[np.bool_] | None
    percentile: float
    latency_share: float

    def of(self, values: Array) -> Array:
        """``values``: of the last requests, in order."""
        return values if self.requests is None else values[self.requests[-len(values) :]]

    def estimate(self, total: Array) -> intervals.Estimate:
        return intervals.quantile(self.of(total), share=self.percentile / 100)

    def spare(self, warm_up: int, count: int) -> int:
        """How many requests after the warm-up may be late without the percentile being so."""
        every = count - warm_up if self.requests is None else int(self.requests[warm_up:].sum())
        return every - math.floor(self.percentile / 100 * (every - 1)) - 1


def targets_of(workload: Workload, percentile: float, traffic: NDArray[np.int64]) -> tuple[Target, ...]:
    """What must hold: of each class its own percentile, else the budget's of all requests."""
    if not workload.classes:
        return (Target(traffic=None, name="", requests=None, percentile=percentile, latency_share=1.0),)
    return tuple(
        Target(
            traffic=index,
            name=one.name,
            requests=traffic == index,
            percentile=one.percentile,
            latency_share=one.latency_share,
        )
        for index, one in enumerate(workload.classes)
    )


def worst(targets: Sequence[Target], total: Array) -> intervals.Estimate:
    """The target that is nearest to its budget, in seconds of the budget's latency."""
    estimates = []
    for target in targets:
        own, share = target.estimate(total), target.latency_share
        estimates.append(intervals.Estimate(value=own.value / share, half_width=own.half_width / share))
    return max(estimates, key=lambda one: one.value + one.half_width)


def class_predictions(targets: Sequence[Target], total: Array) -> Iterator[ClassPrediction]:
    for target in targets:
        if target.traffic is not None:
            own = target.estimate(total)
            yield ClassPrediction(
                name=target.name,
                percentile=target.percentile,
                latency_ms=1000 * own.value,
                sized_at_ms=1000 * (own.value + own.half_width),
                latency_share=target.latency_share,
            )


def quantile(values: Array, share: float) -> float:
    """0 when there is nothing."""
    return float(intervals.quantiles(values, share)[0])


def _term(seconds: Array) -> Term:
    p50, p99 = (1000 * float(value) for value in intervals.quantiles(seconds, 0.5, 0.99))
    return Term(mean_ms=1000 * float(seconds.mean()) if len(seconds) else 0.0, p50_ms=p50, p99_ms=p99)


def sizing_of(outcome: Outcome, *, percentile: float, targets: Sequence[Target]) -> Sizing:
    estimate = worst(targets, outcome.total)
    return Sizing(
        percentile=percentile,
        sized_at_ms=1000 * (estimate.value + estimate.half_width),
        p99_ms=1000 * quantile(outcome.total, 0.99),
        queue_p99_ms=1000 * quantile(outcome.queue, 0.99),
        compute_p99_ms=1000 * quantile(outcome.compute, 0.99),
        utilization=outcome.utilization,
        largest_batch=outcome.largest_batch,
    )


def prediction_of(
    outcome: Outcome,
    *,
    percentile: float,
    targets: Sequence[Target],
    residual: float,
    load: float,
    hit_ratio: float,
    extrapolated_share: float,
) -> Prediction:
    estimate = worst(targets, outcome.total)
    latency, half_width = 1000 * estimate.value, 1000 * estimate.half_width
    total, compute = _term(outcome.total), _term(outcome.compute)
    band = math.hypot(half_width, residual * min(compute.p99_ms, latency), HISTOGRAM_ERROR * latency)
    return Prediction(
        percentile=percentile,
        latency_ms=latency,
        sized_at_ms=latency + half_width,
        low_ms=max(latency - band, 0.0),
        high_ms=latency + band,
        p50_ms=total.p50_ms,
        p99_ms=total.p99_ms,
        pre=_term(outcome.pre),
        queue=_term(outcome.queue),
        compute=compute,
        post=_term(outcome.post),
        overhead=_term(outcome.overhead),
        utilization=outcome.utilization,
        load=load,
        mean_batch=outcome.mean_batch,
        cache_hit_ratio=hit_ratio,
        extrapolated_share=extrapolated_share,
        classes=tuple(class_predictions(targets, outcome.total)),
    )
