"""A candidate that may serve, a choice for it, and a fleet of such."""

from dataclasses import dataclass
from functools import cached_property

from cycleops.planner.model import Candidate
from cycleops.planner.service_time import ServiceTimes


@dataclass(frozen=True, kw_only=True)
class Able:
    """A candidate whose profile can be planned from, and whose accuracy is known to be high enough."""

    candidate: Candidate
    accuracy: float | None

    @cached_property
    def key(self) -> tuple[str, str]:
        return self.candidate.profile.variant, self.candidate.hardware.name

    @property
    def lack_of_accuracy(self) -> float:
        """Lower is better."""
        return 1.0 if self.accuracy is None else -self.accuracy


@dataclass(frozen=True, kw_only=True)
class Prepared(Able):
    times: ServiceTimes

    def servers(self, replicas: int) -> int:
        """All workers of so many pods. The simulation gives each a queue of its own, where a pod's share one: a wait
        that is, if anything, too long.
        """
        return replicas * self.candidate.profile.workers


@dataclass(frozen=True, kw_only=True)
class Choice:
    batch_size: int
    delay_seconds: float
    replicas: int


# Replicas of one or several kinds behind the same balancers.
Fleet = tuple[tuple[Prepared, Choice], ...]
