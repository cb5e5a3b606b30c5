"""From candidates to those that may be simulated: pinned, measured, in range, accurate enough. Each loss is told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from cycle_wire.profile import Profile
from cycleops.planner.choice import Choice, Prepared
from cycleops.planner.evaluate import Evaluator
from cycleops.planner.floor import baseline_value, judge
from cycleops.planner.memory import Memory
from cycleops.planner.model import Algorithm, Budget, Candidate, Limits, Pinned, Settings, Workload
from cycleops.planner.result import Rejected, RejectReason
from cycleops.planner.service_time import IncompleteProfileError, ServiceTimes
from cycleops.planner.traffic import length_quantile

TimesT = TypeVar("TimesT")

# A delay fills batches. Below this busy share there is little to gain by that, and each request would wait longer.
DELAY_PAYS_FROM = 0.5


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Everything a plan depends on; with the seed, all of it. ``memory`` only makes it quicker."""

    workload: Workload
    budget: Budget
    candidates: tuple[Candidate, ...]
    limits: Limits
    algorithm: Algorithm
    seed: int
    pinned: Pinned
    settings: Settings
    memory: Memory = field(default_factory=Memory, compare=False, repr=False)

    def __post_init__(self) -> None:
        keys = [(candidate.profile.variant, candidate.hardware.name) for candidate in self.candidates]
        if len(set(keys)) != len(keys):
            raise ValueError("two candidates have the same variant and hardware")

    def evaluator(self) -> Evaluator:
        return Evaluator(
            workload=self.workload,
            percentile=self.budget.percentile,
            algorithm=self.algorithm,
            settings=self.settings,
            seed=self.seed,
            memory=self.memory,
        )

    @cached_property
    def baselines(self) -> tuple[Candidate, ...]:
        """Those that the accuracy floor is counted from."""
        floor = self.budget.accuracy
        return tuple(one for one in self.candidates if floor is not None and one.profile.variant == floor.baseline)

    @property
    def baseline_accuracy(self) -> float | None:
        """Of the floor's baseline, where it was best; None without one."""
        floor = self.budget.accuracy
        if floor is None or floor.baseline is None:
            return None
        return baseline_value(floor=floor, hardware=None, candidates=self.baselines)

    def replica_bounds(self, candidate: Candidate) -> tuple[int, int]:
        """Fewest and most replicas on this candidate's hardware."""
        if self.pinned.replicas is not None:
            return self.pinned.replicas, self.pinned.replicas
        most = self.limits.maximum_replicas
        return self.limits.minimum_replicas, min(most, candidate.hardware.maximum_replicas or most)


def rejection(candidate: Candidate, batch_size: int | None, reason: RejectReason, message: str) -> Rejected:
    return Rejected(
        variant=candidate.profile.variant,
        hardware=candidate.hardware.name,
        batch_size=batch_size,
        reason=reason,
        message=message,
    )


def prepare(problem: Problem) -> tuple[list[Prepared], list[Rejected]]:
    """What passes, and what does not with the first reason that stands against it."""
    passed, rejected = able(problem, times_of=problem.memory.times, outside=_outside)
    return [Prepared(candidate=one, times=times, accuracy=accuracy) for one, times, accuracy in passed], rejected


def able(
    problem: Problem,
    *,
    times_of: Callable[[Profile], TimesT],
    outside: Callable[[Problem, Candidate, TimesT], str | None],
) -> tuple[list[tuple[Candidate, TimesT, float | None]], list[Rejected]]:
    """Candidates with times and accuracy. ``times_of`` raises IncompleteProfileError; ``outside`` says what lies beyond
    what was measured.
    """
    passed: list[tuple[Candidate, TimesT, float | None]] = []
    rejected: list[Rejected] = []
    for candidate in problem.candidates:
        if lost := _not_pinned(problem.pinned, candidate):
            rejected.append(lost)
            continue
        try:
            times = times_of(candidate.profile)
        except IncompleteProfileError as error:
            message = f"the profile of {candidate.label} can't be planned from: {error}"
            rejected.append(rejection(candidate, None, RejectReason.NO_ROWS, message))
            continue
        if message := outside(problem, candidate, times) or "":
            rejected.append(rejection(candidate, None, RejectReason.OUTSIDE_MEASURED_RANGE, message))
            continue
        verdict = judge(candidate=candidate, floor=problem.budget.accuracy, candidates=problem.baselines)
        if verdict.rejected:
            rejected.append(verdict.rejected)
        else:
            passed.append((candidate, times, verdict.accuracy))
    return passed, rejected


def _not_pinned(pinned: Pinned, candidate: Candidate) -> Rejected | None:
    for wanted, own in ((pinned.variant, candidate.profile.variant), (pinned.hardware, candidate.hardware.name)):
        if wanted not in (None, own):
            return rejection(candidate, None, RejectReason.NOT_PINNED, f"{wanted} is pinned, not {own}")
    return None


def stage_cap(
    problem: Problem, candidate: Candidate, milliseconds: Callable[[], tuple[float, float]]
) -> Rejected | None:
    """A cap of pre or post that no number of replicas can mend. ``milliseconds``: both at the percentile."""
    budget = problem.budget
    caps = (budget.pre_milliseconds, budget.post_milliseconds)
    if caps == (None, None):
        return None
    for term, value, cap in zip(("pre", "post"), milliseconds(), caps, strict=True):
        if cap is not None and value > cap:
            text = f"p{budget.percentile:g} of {term} is {value:.1f} ms on {candidate.label}, above the cap {cap:g} ms"
            return rejection(candidate, None, RejectReason.STAGE_CAP, text)
    return None


def _outside(problem: Problem, candidate: Candidate, times: ServiceTimes) -> str | None:
    """Inputs up to the 99th percentile, or to the budget's if that is higher, must have been measured."""
    percentile = max(99.0, problem.budget.percentile)
    length, longest = length_quantile(problem.workload, percentile), times.lengths[-1]
    if length > longest + 0.5:
        return (
            f"{100 - percentile:g} % of the inputs are longer than {length:.0f} tokens, and {candidate.label} was "
            f"measured up to {longest} only: profile longer sequences"
        )
    batch = problem.pinned.batch_size
    if batch is not None and batch > times.batch_sizes[-1]:
        return f"the pinned batch {batch} is above the largest measured one, {times.batch_sizes[-1]}"
    return None


def batch_sizes(problem: Problem, prepared: Prepared) -> Sequence[int]:
    return prepared.times.batch_sizes if problem.pinned.batch_size is None else (problem.pinned.batch_size,)


def delays_seconds(
    problem: Problem, evaluator: Evaluator, prepared: Prepared, batch_size: int, replicas: int
) -> Sequence[float]:
    """0 first: a delay costs latency at light load, and is tried only where it is needed to fill batches.

    The other does not depend on the budget, so that a tighter budget can't find what a looser one does not.
    """
    if problem.pinned.delay_milliseconds is not None:
        return (problem.pinned.delay_milliseconds / 1000,)
    share = problem.settings.delay_share
    if batch_size == 1 or share == 0:
        return (0.0,)
    choice = Choice(batch_size=batch_size, delay_seconds=0.0, replicas=replicas)
    if evaluator.busy_alone([(prepared, choice)]) < DELAY_PAYS_FROM:
        return (0.0,)
    return (0.0, round(share * evaluator.single_seconds(prepared), 4))
