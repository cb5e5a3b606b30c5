"""Is memory flat? Pure: from the rows of a soak, by a rule that is said before the run.

The slope of the second half of the run is Theil and Sen's: the median of the slopes of all pairs of rows, which one row
that is off doesn't move, with the 95 % interval of Sen (1968, by Kendall's tau). A process is

- flat, when the upper end of the interval is at most LIMIT_SHARE of its memory in an hour (LIMIT_MIB if that is more),
- growing, when the lower end is above that,
- undecided otherwise: what was seen goes with both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

LIMIT_SHARE = 0.01
LIMIT_MIB = 4.0
LEAST_ROWS = 8  # of the second half
NORMAL_97_5 = 1.96


@dataclass(frozen=True)
class Slope:
    """MiB per hour, with the ends of the 95 % interval."""

    middle: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Verdict:
    """``limit``: MiB per hour. ``slope`` None: too few rows to say."""

    word: str
    slope: Slope | None
    limit: float

    def __str__(self) -> str:
        if self.slope is None:
            return f"{self.word}: fewer than {LEAST_ROWS} rows in the second half"
        ends = f"95 % interval {self.slope.lower:+.1f} to {self.slope.upper:+.1f}"
        return f"{self.word}: {self.slope.middle:+.1f} MiB an hour in the second half ({ends}, limit {self.limit:.1f})"


def judge(seconds: Sequence[float], mebibytes: Sequence[float]) -> Verdict:
    """Of a whole run's rows: when each was taken, and the process's resident memory then."""
    half = len(seconds) // 2
    hours, memory = [at / 3600 for at in seconds[half:]], mebibytes[half:]
    limit = max(LIMIT_SHARE * median(memory), LIMIT_MIB) if memory else LIMIT_MIB
    if len(memory) < LEAST_ROWS:
        return Verdict("undecided", None, limit)
    slope = theil_sen(hours, memory)
    if slope.upper <= limit:
        return Verdict("flat", slope, limit)
    return Verdict("growing" if slope.lower > limit else "undecided", slope, limit)


def theil_sen(x: Sequence[float], y: Sequence[float]) -> Slope:
    """``x`` rises; at least three points."""
    count = len(x)
    slopes = sorted((y[j] - y[i]) / (x[j] - x[i]) for i in range(count) for j in range(i + 1, count))
    spread = NORMAL_97_5 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    lower = max(math.floor((len(slopes) - spread) / 2), 0)
    upper = min(math.ceil((len(slopes) + spread) / 2), len(slopes) - 1)
    return Slope(median(slopes), slopes[lower], slopes[upper])
