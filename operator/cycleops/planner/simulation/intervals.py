"""Confidence intervals of a simulated percentile."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BATCHES = 10
STUDENT_95 = 2.262  # t of 9 degrees of freedom, two-sided 95 %


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """``value`` plus or minus ``half_width`` holds the true quantile in 95 of 100 simulations."""

    value: float
    half_width: float


def quantile(values: Array, *, share: float) -> Estimate:
    """The quantile at ``share`` (0 to 1) of a series in order of time, by batch means.

    Neighbours in a queue resemble each other, so the scatter of single values says little: the series is cut into
    BATCHES stretches, long enough to be nearly independent, and the scatter of their quantiles counts.
    Source: A. M. Law, Simulation Modeling and Analysis, section 9.5.3. 0 when there are too few values.
    """
    length = len(values) // BATCHES
    if not length:
        return Estimate(value=0.0, half_width=0.0)
    parts = quantiles(values[: length * BATCHES].reshape(BATCHES, length), share)[0]
    spread = float(np.std(parts, ddof=1))
    value = float(quantiles(values, share)[0])
    return Estimate(value=value, half_width=STUDENT_95 * spread / math.sqrt(BATCHES))


def quantiles(values: Array, *shares: float) -> list[Array]:
    """Along the last axis, linear between neighbours; by selection, which is faster than sorting. 0 of nothing."""
    count = values.shape[-1]
    if not count:
        return [np.zeros(values.shape[:-1]) for _ in shares]
    places = [share * (count - 1) for share in shares]
    lows = [math.floor(place) for place in places]
    chosen = np.partition(values, sorted({k for low in lows for k in (low, min(low + 1, count - 1))}), axis=-1)
    return [
        chosen[..., low] + (place - low) * (chosen[..., min(low + 1, count - 1)] - chosen[..., low])
        for place, low in zip(places, lows, strict=True)
    ]
