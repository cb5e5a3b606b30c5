"""Plans by what is measured: a profile whose compute is surely slower than it says is planned with as slow as it is.

Only slower. That a profile is too careful is said (``profile_stale``), and costs replicas, not the budget.
"""

import math

from cycle_wire.profile import GROWTH, MAXIMUM_BUCKET, Histogram, Profile
from cycleops.planner.adaptation.correction import STALE_BEYOND, Correction

_STEP = 1.05  # of slowness, so that the plan is not made anew with every window
_APART = 0.1  # relative, and two deviations: only then the step changes


def planned_slowness(before: float, correction: Correction) -> float:
    """What plans are made with: 1 while the profile holds. ``before``: what the last plan was made with."""
    low, high = correction.interval()
    if before <= 1.0:
        return _step(correction.slowness) if low > 1 + STALE_BEYOND else 1.0
    if high < 1 + STALE_BEYOND:
        return 1.0
    away = abs(math.log(correction.slowness / before))
    return before if away <= max(2 * correction.deviation, _APART) else _step(correction.slowness)


def slower(profile: Profile, slowness: float) -> Profile:
    """The profile with every compute ``slowness`` times as long, to the width of a histogram's bucket (1 or more)."""
    shift = round(math.log(slowness) / math.log(GROWTH))
    if shift == 0:
        return profile
    rows = [row.model_copy(update={"compute": _shifted(row.compute, shift)}) for row in profile.rows]
    return profile.model_copy(update={"rows": rows})


def _shifted(histogram: Histogram, shift: int) -> Histogram:
    buckets = [min(bucket + shift, MAXIMUM_BUCKET) for bucket in histogram.buckets]
    if len(set(buckets)) < len(buckets):  # at the very end of the scale
        return histogram
    return Histogram(buckets=buckets, counts=histogram.counts)


def _step(slowness: float) -> float:
    return round(_STEP ** max(round(math.log(slowness) / math.log(_STEP)), 1), 4)
