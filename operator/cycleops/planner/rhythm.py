"""Arrivals whose gaps depend on each other."""

import math
from dataclasses import dataclass


def check(condition: bool, message: str) -> None:
    """Raises ValueError with ``message``."""
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class Bursts:
    """Arrivals of a Markov-modulated Poisson process: for ``time_share`` of the time, in bursts of ``mean_seconds`` in
    the mean, requests come ``rate_ratio`` times as fast as else.
    """

    rate_ratio: float
    time_share: float
    mean_seconds: float

    def __post_init__(self) -> None:
        check(1 < self.rate_ratio < math.inf, "rate_ratio must be above 1")
        check(0 < self.time_share < 1, "time_share must be between 0 and 1")
        check(0 < self.mean_seconds < math.inf, "mean_seconds must be above 0")


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Arrivals in the rhythm of a trace: the gaps in front of its requests. The workload's rate scales it."""

    gaps_seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        check(all(0 <= gap < math.inf for gap in self.gaps_seconds), "gaps_seconds must be 0 or more")
        check(sum(self.gaps_seconds) > 0, "gaps_seconds must not all be 0")

    @property
    def cv2(self) -> float:
        """Squared coefficient of variation of the gaps."""
        mean = sum(self.gaps_seconds) / len(self.gaps_seconds)
        return sum((gap - mean) ** 2 for gap in self.gaps_seconds) / len(self.gaps_seconds) / mean**2
