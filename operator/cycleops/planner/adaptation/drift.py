"""Has what arrives changed since the profiles were made? Three detectors, each with a stated rate of false alarms.

- **Shares** (input lengths by bucket, labels): the population stability index of a window against the reference,
  PSI = sum (p - q) ln(p / q). Without a shift, PSI / (1/n + 1/m) is about chi-squared with buckets - 1 degrees of
  freedom, so the threshold is its quantile at the wanted false-alarm rate; with thousands of requests that alone would
  report shifts too small to matter, so PSI must also be above MATTERS.
- **Level** (a rate, a slowness): Page and Hinkley's cumulative sum of standardized deviations from the reference, both
  ways. For independent normal windows Siegmund's approximation gives the mean number of windows to a false alarm.

Sources: B. Yurdakul and J. Naranjo, Statistical properties of the population stability index, Journal of Risk Model
Validation 14, 2020; E. S. Page, Continuous inspection schemes, Biometrika 41, 1954; D. Siegmund, Sequential Analysis,
1985, chapter 10; the normal approximation of chi-squared quantiles is Wilson and Hilferty's, 1931.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

from pydantic import BaseModel, ConfigDict, Field

MATTERS = 0.1  # the customary bound between "no" and "some" shift
_HALF = 0.5  # added to every count: an empty bucket is rare, not impossible


class Shift(BaseModel):
    """``index``: PSI. ``threshold``: what chance alone exceeds with the stated false-alarm rate, at least MATTERS."""

    model_config = ConfigDict(frozen=True)

    index: float = Field(ge=0)
    threshold: float = Field(ge=0)

    @property
    def found(self) -> bool:
        return self.index > self.threshold


def shift(reference: Sequence[int], window: Sequence[int], *, false_alarms: float = 0.001) -> Shift:
    """Counts per bucket, then and now. ``false_alarms``: per comparison, when nothing has shifted.

    Raises ValueError when the buckets differ, or fewer than two have anything in them.
    """
    if len(reference) != len(window):
        raise ValueError(f"the reference has {len(reference)} buckets, the window {len(window)}")
    if min(*reference, *window, 0) < 0:
        raise ValueError("counts must be 0 or more")
    both = [(a, b) for a, b in zip(reference, window, strict=True) if a or b]
    before, after = sum(a for a, _ in both), sum(b for _, b in both)
    if len(both) < 2 or not before or not after:
        raise ValueError("at least two buckets must have counts, and both sides some")
    extra = _HALF * len(both)
    index = 0.0
    for a, b in both:
        p, q = (b + _HALF) / (after + extra), (a + _HALF) / (before + extra)
        index += (p - q) * math.log(p / q)
    chance = (1 / before + 1 / after) * _chi2_quantile(1 - false_alarms, len(both) - 1)
    return Shift(index=max(index, 0.0), threshold=max(chance, MATTERS))


class Level(BaseModel):
    """Both sums of Page and Hinkley's test, in standard deviations."""

    model_config = ConfigDict(frozen=True)

    above: float = Field(default=0.0, ge=0)
    below: float = Field(default=0.0, ge=0)


def follow(before: Level, *, deviation: float, slack: float = 0.5) -> Level:
    """``deviation``: of this window from the reference, in standard deviations. Best at finding shifts of 2 x slack."""
    if not math.isfinite(deviation):
        raise ValueError("deviation must be a number")
    return Level(
        above=max(before.above + deviation - slack, 0.0),
        below=max(before.below - deviation - slack, 0.0),
    )


def shifted(level: Level, *, threshold: float) -> str | None:
    """ "up", "down", or None."""
    if max(level.above, level.below) <= threshold:
        return None
    return "up" if level.above >= level.below else "down"


def threshold_for(*, windows: float, slack: float = 0.5) -> float:
    """The threshold at which independent windows give one false alarm in so many, both ways together."""
    if not windows > 4:
        raise ValueError("windows must be above 4")
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _run_length(middle, slack) / 2 < windows else (low, middle)
    return high


def _run_length(threshold: float, slack: float) -> float:
    """Mean windows to a false alarm of one side (Siegmund): (exp(2ab) - 2ab - 1) / 2a^2, b = threshold + 1.166."""
    exponent = 2 * slack * (threshold + 1.166)
    return (math.exp(min(exponent, 700.0)) - exponent - 1) / (2 * slack**2)


def _chi2_quantile(share: float, degrees: int) -> float:
    spread = 2 / (9 * degrees)
    return degrees * (1 - spread + NormalDist().inv_cdf(share) * math.sqrt(spread)) ** 3
