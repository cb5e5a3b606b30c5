"""The rate to plan for: declared, measured, or the larger of both. Pure."""

import math

from cycleops.api.traffic import Traffic, TrafficBasis
from cycleops.service.histograms import Measured

# Measured rates move the plan in steps of this ratio, so that it does not follow every wave.
STEP = 1.25
# Poisson arrivals counted in a window scatter by the root of their number; this many times it is no chance.
DEVIATIONS = 4.0


def planned_rate(*, traffic: Traffic, measured: Measured | None, planned: float | None) -> float:
    """Requests per second. ``planned`` is what serves now was planned for; None at first.

    Up when the measured rate is surely above it; down when it is surely more than two steps below. The same numbers
    give the same answer again, so a pass without news changes nothing. Without a measurement it stays: no news is
    never taken for no traffic.
    """
    declared = float(traffic.requests_per_second)
    if traffic.basis is TrafficBasis.DECLARED:
        return declared
    least = declared if traffic.basis is TrafficBasis.MAXIMUM else 0.0
    now = max(planned or declared, least)
    if measured is None:
        return now
    rate = measured.requests_per_second
    scatter = DEVIATIONS * math.sqrt(rate / measured.window_seconds)
    if rate - scatter > now or rate + scatter < now / STEP**2:
        return max(least, _step_above(rate + scatter if rate < now else rate, declared))
    return now


def _step_above(rate: float, declared: float) -> float:
    """The smallest of declared x STEP^k that is no smaller than ``rate``."""
    steps = math.ceil(math.log(rate / declared) / math.log(STEP) - 1e-9)
    return round(declared * STEP**steps, 6)
