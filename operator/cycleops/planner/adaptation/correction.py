"""How much slower than profiled the service computes: a Kalman filter on the logarithm of measured over predicted.

    x(k) = x(k-1) + w,  w ~ N(0, WANDER^2 x dt)            slowness s = exp(x) drifts slowly
    z(k) = log(measured compute / predicted at s = 1) + v,  v ~ N(0, noise^2)

A measurement whose innovation is further than GATE standard deviations from what is expected is left out, as one bad
window (a scrape while a node was stolen from) must not resize a service. Several in a row on the same side are no
accident: then the filter's own variance is widened, and the next one is believed.

Source: Y. Bar-Shalom, X. R. Li, T. Kirubarajan, Estimation with Applications to Tracking and Navigation, 2001,
chapter 5 (innovation gating, consistency).
"""

import math

from pydantic import BaseModel, ConfigDict, Field

BOUND = 2.5  # the slowness stays between 1 / BOUND and BOUND: beyond, the profile is wrong and not merely off
WANDER_PER_ROOT_HOUR = 0.05
MODEL_NOISE = 0.02  # of the prediction itself, however many requests were measured
REQUEST_NOISE = 0.5  # coefficient of variation of one request's compute, within and between batches
GATE = 4.0
BELIEVE_AFTER = 4  # gated measurements in a row, all on one side
STALE_BEYOND = 0.25  # a slowness this far from 1, surely: the profile is stale
KNOWN_TO = 0.1  # a deviation below which the slowness is known; above it, little was measured
_PRIOR = 0.15  # before anything was measured: what a profile on the same class of hardware may be off


class Correction(BaseModel):
    """``log_slowness`` with its variance. ``gated``: how many in a row were left out; negative when too fast."""

    model_config = ConfigDict(frozen=True)

    log_slowness: float = Field(default=0.0, ge=-math.log(BOUND), le=math.log(BOUND))
    variance: float = Field(default=_PRIOR**2, gt=0, le=1.0)
    gated: int = Field(default=0, ge=-BELIEVE_AFTER, le=BELIEVE_AFTER)

    @property
    def slowness(self) -> float:
        """1.2: batches compute 20 % longer than the profile says."""
        return math.exp(self.log_slowness)

    @property
    def deviation(self) -> float:
        """Standard deviation, relative."""
        return math.sqrt(self.variance)

    def interval(self, deviations: float = 2.0) -> tuple[float, float]:
        wide = deviations * self.deviation
        return math.exp(self.log_slowness - wide), math.exp(self.log_slowness + wide)

    @property
    def profile_is_stale(self) -> bool:
        """Surely more than STALE_BEYOND off."""
        low, high = self.interval()
        return low > 1 + STALE_BEYOND or high < 1 / (1 + STALE_BEYOND)


def correct(before: Correction, *, ratio: float, requests: int, elapsed_seconds: float) -> Correction:
    """``ratio``: measured over predicted mean compute, where the prediction is for a slowness of 1.

    ``requests``: behind the measurement. Raises ValueError when ratio or elapsed_seconds is not a positive number.
    """
    if not (math.isfinite(ratio) and ratio > 0 and math.isfinite(elapsed_seconds) and elapsed_seconds > 0):
        raise ValueError(f"ratio {ratio} and elapsed_seconds {elapsed_seconds} must be above 0")
    spread = before.variance + WANDER_PER_ROOT_HOUR**2 * elapsed_seconds / 3600
    if requests < 1:
        return before.model_copy(update={"variance": min(spread, 1.0)})
    noise = MODEL_NOISE**2 + REQUEST_NOISE**2 / requests
    innovation = math.log(ratio) - before.log_slowness
    if innovation**2 > GATE**2 * (spread + noise):
        side = 1 if innovation > 0 else -1
        gated = before.gated + side if before.gated * side > 0 else side
        if abs(gated) < BELIEVE_AFTER:
            return before.model_copy(update={"variance": min(spread, 1.0), "gated": gated})
        spread = innovation**2
    gain = spread / (spread + noise)
    bound = math.log(BOUND)
    return Correction(
        log_slowness=min(max(before.log_slowness + gain * innovation, -bound), bound),
        variance=min((1 - gain) * spread, 1.0),
    )
