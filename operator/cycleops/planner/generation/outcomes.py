"""From a simulation of generation to what is said of it: percentiles with their intervals, and the band of errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.generation.simulate import GenerationOutcome
from cycleops.planner.generation.times import GenerationTimes
from cycleops.planner.histograms import MIDDLES
from cycleops.planner.model import Budget
from cycleops.planner.outcomes import HISTOGRAM_ERROR, Target, class_predictions, quantile, worst
from cycleops.planner.result import Dimension, Generated, Prediction, Term, TokenTime
from cycleops.planner.simulation import intervals
from cycleops.planner.simulation.intervals import Estimate

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
NAMES = {
    Dimension.LATENCY: "T",
    Dimension.FIRST_TOKEN: "time to first token",
    Dimension.PER_TOKEN: "time per token",
}


@dataclass(frozen=True, kw_only=True)
class GenerationSizing:
    """In milliseconds at the budget's percentile, with the half-width of its confidence interval added."""

    percentile: float
    latency_ms: float
    first_token_ms: float
    per_token_ms: float
    p99_ms: float
    utilization: float
    largest_running: int

    def of(self, dimension: Dimension) -> float:
        return {
            Dimension.LATENCY: self.latency_ms,
            Dimension.FIRST_TOKEN: self.first_token_ms,
            Dimension.PER_TOKEN: self.per_token_ms,
        }[dimension]


def stricter(one: GenerationSizing, other: GenerationSizing) -> GenerationSizing:
    """The longer of each time."""
    return replace(
        one,
        latency_ms=max(one.latency_ms, other.latency_ms),
        first_token_ms=max(one.first_token_ms, other.first_token_ms),
        per_token_ms=max(one.per_token_ms, other.per_token_ms),
    )


def caps_of(budget: Budget) -> dict[Dimension, float]:
    """What must hold at the percentile, in milliseconds."""
    caps = {
        Dimension.LATENCY: budget.latency_milliseconds,
        Dimension.FIRST_TOKEN: budget.first_token_milliseconds,
        Dimension.PER_TOKEN: budget.per_token_milliseconds,
    }
    return {dimension: cap for dimension, cap in caps.items() if cap is not None}


def broken(sizing: GenerationSizing, budget: Budget) -> list[str]:
    """The caps that do not hold, each in words with its numbers."""
    return [
        f"p{budget.percentile:g} of {NAMES[dimension]} is {sizing.of(dimension):.1f} ms, above {cap:g} ms"
        for dimension, cap in caps_of(budget).items()
        if sizing.of(dimension) > cap
    ]


@dataclass(frozen=True, kw_only=True)
class _Times:
    """In seconds. ``budgeted`` is at the percentile, with its confidence interval."""

    mean: float
    p50: float
    p99: float
    budgeted: Estimate


def _of_requests(seconds: Array, percentile: float) -> _Times:
    mean = float(seconds.mean()) if len(seconds) else 0.0
    p50, p99 = (quantile(seconds, share) for share in (0.5, 0.99))
    return _Times(mean=mean, p50=p50, p99=p99, budgeted=intervals.quantile(seconds, share=percentile / 100))


def _of_gaps(gaps: Indices, percentile: float) -> _Times:
    """``gaps``: [stretch of time, bucket]. The interval is by the stretches' quantiles, as that of requests."""
    counts = gaps.sum(axis=0)
    if not counts.any():
        return _Times(mean=0.0, p50=0.0, p99=0.0, budgeted=Estimate(value=0.0, half_width=0.0))
    share = percentile / 100
    parts = np.array([_gap_quantile(one, share) for one in gaps if one.any()])
    spread = float(np.std(parts, ddof=1)) if len(parts) > 1 else 0.0
    half_width = intervals.STUDENT_95 * spread / math.sqrt(len(parts))
    return _Times(
        mean=float(counts @ MIDDLES) / float(counts.sum()),
        p50=_gap_quantile(counts, 0.5),
        p99=_gap_quantile(counts, 0.99),
        budgeted=Estimate(value=_gap_quantile(counts, share), half_width=half_width),
    )


def _gap_quantile(counts: Indices, share: float) -> float:
    seen = np.cumsum(counts)
    return float(MIDDLES[np.searchsorted(seen, share * seen[-1])])


def _of_answers(outcome: GenerationOutcome, percentile: float, targets: Sequence[Target]) -> _Times:
    """T of all requests; of the class that is nearest to its budget where there are classes."""
    return replace(_of_requests(outcome.total, percentile), budgeted=worst(targets, outcome.total))


def sizing_of(outcome: GenerationOutcome, *, percentile: float, targets: Sequence[Target]) -> GenerationSizing:
    whole = _of_answers(outcome, percentile, targets)
    times = (whole, _of_requests(outcome.first_token, percentile), _of_gaps(outcome.gaps, percentile))
    sized = [1000 * (one.budgeted.value + one.budgeted.half_width) for one in times]
    return GenerationSizing(
        percentile=percentile,
        latency_ms=sized[0],
        first_token_ms=sized[1],
        per_token_ms=sized[2],
        p99_ms=1000 * whole.p99,
        utilization=outcome.utilization,
        largest_running=outcome.largest_running,
    )


def prediction_of(
    outcome: GenerationOutcome,
    *,
    percentile: float,
    targets: Sequence[Target],
    times: GenerationTimes,
    load: float,
    hit_ratio: float,
    extrapolated_share: float,
) -> Prediction:
    whole = _with_band(_of_answers(outcome, percentile, targets), times.residual)
    return Prediction(
        percentile=percentile,
        latency_ms=whole.budgeted_ms,
        sized_at_ms=whole.sized_at_ms,
        low_ms=whole.low_ms,
        high_ms=whole.high_ms,
        p50_ms=whole.p50_ms,
        p99_ms=whole.p99_ms,
        pre=_term(outcome.pre),
        queue=_term(outcome.queue),
        compute=_term(outcome.compute),
        post=_term(outcome.post),
        overhead=_term(outcome.overhead),
        utilization=outcome.utilization,
        load=load,
        mean_batch=outcome.mean_running,
        cache_hit_ratio=hit_ratio,
        extrapolated_share=extrapolated_share,
        classes=tuple(class_predictions(targets, outcome.total)),
        generation=Generated(
            first_token=_with_band(_of_requests(outcome.first_token, percentile), times.residual),
            per_token=_with_band(_of_gaps(outcome.gaps, percentile), times.residual),
            tokens_per_second=outcome.tokens_per_second,
        ),
    )


def _with_band(times: _Times, residual: float) -> TokenTime:
    """The band joins the simulation's interval, the profile's residual and its histograms' buckets as independent."""
    value, half_width = 1000 * times.budgeted.value, 1000 * times.budgeted.half_width
    band = math.hypot(half_width, residual * value, HISTOGRAM_ERROR * value)
    return TokenTime(
        mean_ms=1000 * times.mean,
        p50_ms=1000 * times.p50,
        p99_ms=1000 * times.p99,
        budgeted_ms=value,
        sized_at_ms=value + half_width,
        low_ms=max(value - band, 0.0),
        high_ms=value + band,
    )


def _term(seconds: Array) -> Term:
    p50, p99 = (1000 * quantile(seconds, share) for share in (0.5, 0.99))
    return Term(mean_ms=1000 * float(seconds.mean()) if len(seconds) else 0.0, p50_ms=p50, p99_ms=p99)
