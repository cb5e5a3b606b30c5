"""From a simulation of generation to what is said of it: percentiles with their intervals, and the band of errors."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.generation.simulate import GenerationOutcome
from cycleops.planner.generation.times import GenerationTimes
from cycleops.planner.model import Budget
from cycleops.planner.outcomes import HISTOGRAM_ERROR, quantile
from cycleops.planner.result import Dimension, Generated, Prediction, Term, TokenTime
from cycleops.planner.simulation import intervals

Array = NDArray[np.float64]
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


def sizing_of(outcome: GenerationOutcome, *, percentile: float) -> GenerationSizing:
    share = percentile / 100
    sized = [
        1000 * (estimate.value + estimate.half_width)
        for estimate in (
            intervals.quantile(seconds, share=share)
            for seconds in (outcome.total, outcome.first_token, outcome.per_token)
        )
    ]
    return GenerationSizing(
        percentile=percentile,
        latency_ms=sized[0],
        first_token_ms=sized[1],
        per_token_ms=sized[2],
        p99_ms=1000 * quantile(outcome.total, 0.99),
        utilization=outcome.utilization,
        largest_running=outcome.largest_running,
    )


def prediction_of(
    outcome: GenerationOutcome,
    *,
    percentile: float,
    times: GenerationTimes,
    load: float,
    hit_ratio: float,
    extrapolated_share: float,
) -> Prediction:
    total, compute = _term(outcome.total), _term(outcome.compute)
    whole = _token_time(outcome.total, percentile, times.residual)
    return Prediction(
        percentile=percentile,
        latency_ms=whole.budgeted_ms,
        sized_at_ms=whole.sized_at_ms,
        low_ms=whole.low_ms,
        high_ms=whole.high_ms,
        p50_ms=total.p50_ms,
        p99_ms=total.p99_ms,
        pre=_term(outcome.pre),
        queue=_term(outcome.queue),
        compute=compute,
        post=_term(outcome.post),
        overhead=_term(outcome.overhead),
        utilization=outcome.utilization,
        load=load,
        mean_batch=outcome.mean_running,
        cache_hit_ratio=hit_ratio,
        extrapolated_share=extrapolated_share,
        generation=Generated(
            first_token=_token_time(outcome.first_token, percentile, times.residual),
            per_token=_token_time(outcome.per_token, percentile, times.residual),
            tokens_per_second=outcome.tokens_per_second,
        ),
    )


def _token_time(seconds: Array, percentile: float, residual: float) -> TokenTime:
    """The band joins the simulation's interval, the profile's residual and its histograms' buckets as independent."""
    estimate = intervals.quantile(seconds, share=percentile / 100)
    value, half_width = 1000 * estimate.value, 1000 * estimate.half_width
    band = math.hypot(half_width, residual * value, HISTOGRAM_ERROR * value)
    term = _term(seconds)
    return TokenTime(
        mean_ms=term.mean_ms,
        p50_ms=term.p50_ms,
        p99_ms=term.p99_ms,
        budgeted_ms=value,
        sized_at_ms=value + half_width,
        low_ms=max(value - band, 0.0),
        high_ms=value + band,
    )


def _term(seconds: Array) -> Term:
    p50, p99 = (1000 * quantile(seconds, share) for share in (0.5, 0.99))
    return Term(mean_ms=1000 * float(seconds.mean()) if len(seconds) else 0.0, p50_ms=p50, p99_ms=p99)
