"""How far a cache may be counted on: the lower bound of the hit ratio's confidence interval, 0 without evidence.

Hits depend on each other (one popular text is many of them), so the interval is by batch means: the ratios of whole
bins of five minutes, with Student's t. Bins with few requests say nothing and don't count. What is planned with goes in
steps: down as soon as the bound falls, up only when it is surely higher, so that the plan does not follow every wave.

Source: A. M. Law, Simulation Modeling and Analysis (batch means).
"""

import math

from pydantic import BaseModel, ConfigDict, Field

BIN_SECONDS = 300.0
BINS = 12  # an hour
LEAST_BINS = 6
LEAST_REQUESTS = 100  # in a bin
STEP = 0.05
# Student's t, two-sided 95 %, by number of bins from LEAST_BINS on.
_STUDENT = (2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201)


class HitBin(BaseModel):
    model_config = ConfigDict(frozen=True)

    began: float
    requests: int = Field(ge=0)
    hits: int = Field(ge=0)


class HitEvidence(BaseModel):
    """``bins``: oldest first; the last is being filled.

    ``counted``: the lower bound that plans are made with; ``expected``: the ratio when that was last changed.
    """

    model_config = ConfigDict(frozen=True)

    bins: tuple[HitBin, ...] = Field(default=(), max_length=BINS + 1)
    counted: float = Field(default=0.0, ge=0, lt=1)
    expected: float = Field(default=0.0, ge=0, le=1)

    def seen(self, *, requests: int, hits: int, ended_at: float) -> "HitEvidence":
        """Takes in one window. ``hits``: answered from the cache's memory, of ``requests`` that were answered."""
        bins = [one for one in self.bins if ended_at - one.began <= (BINS + 1) * BIN_SECONDS]
        if bins and ended_at - bins[-1].began < BIN_SECONDS:
            last = bins.pop()
            bins.append(HitBin(began=last.began, requests=last.requests + requests, hits=last.hits + hits))
        else:
            bins.append(HitBin(began=ended_at, requests=requests, hits=hits))
        found = self.model_copy(update={"bins": tuple(bins[-BINS - 1 :])})
        counted = _counted(self.counted, found.lower)
        if counted == self.counted:
            return found
        return found.model_copy(update={"counted": counted, "expected": min(found.ratio, 1 - STEP) if counted else 0.0})

    @property
    def ratio(self) -> float:
        """Over the bins that count; 0 when there are too few."""
        full = self._full()
        if len(full) < LEAST_BINS:
            return 0.0
        return sum(one.hits for one in full) / sum(one.requests for one in full)

    @property
    def lower(self) -> float:
        """Of the interval of the ratio; 0 when there are too few bins."""
        ratios = [one.hits / one.requests for one in self._full()]
        count = len(ratios)
        if count < LEAST_BINS:
            return 0.0
        mean = sum(ratios) / count
        spread = math.sqrt(sum((ratio - mean) ** 2 for ratio in ratios) / (count - 1) / count)
        return min(max(min(mean, self.ratio) - _STUDENT[count - LEAST_BINS] * spread, 0.0), 1 - STEP)

    def _full(self) -> list[HitBin]:
        return [one for one in self.bins[:-1] if one.requests >= LEAST_REQUESTS][-BINS:]


def _counted(before: float, lower: float) -> float:
    step = round(math.floor(lower / STEP + 1e-9) * STEP, 4)
    if step < before:
        return step
    return step if step >= before + 2 * STEP - 1e-9 else before
