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
    parts = np.sort(values[: length * BATCHES].reshape(BATCHES, length), axis=1)
    spread = float(np.std(of_sorted(parts, share=share), ddof=1))
    value = float(of_sorted(np.sort(values), share=share))
    return Estimate(value=value, half_width=STUDENT_95 * spread / math.sqrt(BATCHES))


def of_sorted(values: Array, *, share: float) -> Array:
    """Linear between neighbours, along the last axis, of values that rise."""
    place = share * (values.shape[-1] - 1)
    low = math.floor(place)
    high = min(low + 1, values.shape[-1] - 1)
    between: Array = values[..., low] + (place - low) * (values[..., high] - values[..., low])
    return between
