"""Whether the profiles still speak of what arrives: input lengths, labels, and the rate by time of day.

Lengths and labels are collected until there are enough to compare, then held against a reference: the first such
collection, or one that is handed in. The rate of each half hour is held against that of earlier days at the same time.
What is found stays until a later comparison takes it back.
"""

import math

from pydantic import BaseModel, ConfigDict, Field

from cycleops.planner.adaptation import drift
from cycleops.planner.adaptation.forecast import BINS, Season

ENOUGH = 2000  # requests in a comparison
MAXIMUM_BUCKETS = 64
FALSE_ALARMS = 0.001  # per comparison of shares
DAYS_TO_A_FALSE_ALARM = 30.0  # of the rate, if its days differ by RATE_SPREAD
RATE_SPREAD = 0.15  # how far the same half hour of two usual days differs: an assumption

Counts = tuple[int, ...]


class Mix(BaseModel):
    """Counts per bucket. ``found``: what the last comparison said against the reference; empty when it is as it was.

    ``shifted``: what was counted then, when it was not as it was.
    """

    model_config = ConfigDict(frozen=True)

    reference: Counts = Field(default=(), max_length=MAXIMUM_BUCKETS)
    window: Counts = Field(default=(), max_length=MAXIMUM_BUCKETS)
    shifted: Counts = Field(default=(), max_length=MAXIMUM_BUCKETS)
    found: str = ""

    def accepted(self) -> "Mix":
        """What it has shifted to is the reference from now on."""
        return Mix(reference=self.shifted, window=self.window) if self.found else self


class Watch(BaseModel):
    model_config = ConfigDict(frozen=True)

    lengths: Mix = Mix()
    labels: Mix = Mix()
    rate: drift.Level = drift.Level()
    rate_found: str = ""

    @property
    def findings(self) -> tuple[str, ...]:
        """Sentences with numbers: why profiles should be made anew."""
        return tuple(found for found in (self.lengths.found, self.labels.found, self.rate_found) if found)

    @property
    def rate_is_higher(self) -> bool:
        """More requests come than on earlier days."""
        return bool(self.rate_found) and self.rate.above >= self.rate.below

    def accepted(self) -> "Watch":
        """After profiles were made anew for what arrives: that is what later windows are held against."""
        return Watch(lengths=self.lengths.accepted(), labels=self.labels.accepted())


def watch(before: Watch, *, lengths: Counts, labels: Counts, season_before: Season, season: Season) -> Watch:
    """Takes in one window. Empty counts: nothing is known of them. Raises ValueError when buckets change."""
    level, found = _rate(before, season_before, season)
    return Watch(
        lengths=_mix(before.lengths, lengths, "input lengths"),
        labels=_mix(before.labels, labels, "labels"),
        rate=level,
        rate_found=found,
    )


def _mix(before: Mix, counts: Counts, name: str) -> Mix:
    if not counts:
        return before
    known = before.window or (0,) * len(counts)
    if len(counts) != len(known):
        raise ValueError(f"{name}: {len(counts)} buckets, {len(known)} before")
    window = tuple(a + b for a, b in zip(known, counts, strict=True))
    if sum(window) < ENOUGH:
        return before.model_copy(update={"window": window})
    empty = (0,) * len(window)
    if not before.reference:
        return Mix(reference=window, window=empty)
    if sum(1 for a, b in zip(before.reference, window, strict=True) if a or b) < 2:
        return Mix(reference=before.reference, window=empty)  # one bucket then and now
    result = drift.shift(before.reference, window, false_alarms=FALSE_ALARMS)
    found = (
        f"{name} have shifted: stability index {result.index:.2f} over {sum(window)} requests, above "
        f"{result.threshold:.2f}"
    )
    if not result.found:
        return Mix(reference=before.reference, window=empty)
    return Mix(reference=before.reference, window=empty, shifted=window, found=found)


def _rate(before: Watch, past: Season, season: Season) -> tuple[drift.Level, str]:
    """When a half hour is over and the same one of an earlier day is known."""
    if season.bin == past.bin or not past.known or not past.seconds:
        return before.rate, before.rate_found
    usual, now = past.rate[past.bin], past.arrivals / past.seconds
    ratio = (now + 1 / past.seconds) / (usual + 1 / past.seconds)
    counting = 1 / math.sqrt(max(past.arrivals, 1.0))
    level = drift.follow(before.rate, deviation=math.log(ratio) / math.hypot(RATE_SPREAD, counting))
    side = drift.shifted(level, threshold=drift.threshold_for(windows=DAYS_TO_A_FALSE_ALARM * BINS))
    if side is None:
        return level, ""
    return level, f"the rate has shifted {side}: {now:.1f} requests/s, {usual:.1f} at this time of earlier days"
