"""What a policy may answer."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cycleops.job.observation import Observation


class Step(StrEnum):
    """Where a CycleJob is. Each step says which children are wanted: see desired.py."""

    WAIT = "Wait"  # nothing can start; what runs is left alone
    SUSPEND = "Suspend"  # no pods
    TRAIN = "Train"
    RESTART = "Restart"  # delete what trains, to start it anew
    COMPRESS = "Compress"
    PROFILE = "Profile"
    SUCCEED = "Succeed"
    FAIL = "Fail"


@dataclass(frozen=True, slots=True)
class Decision:
    """``message`` is for people; it must not change from pass to pass when nothing happens."""

    step: Step
    reason: str
    message: str
    requeue_after_seconds: float | None = None


# A policy answers, or leaves the question to the next one of the chain. Pure: all it knows is the observation.
Policy = Callable[[Observation], Decision | None]


def fail(reason: str, message: str) -> Decision:
    return Decision(step=Step.FAIL, reason=reason, message=message)


def wait(reason: str, message: str, *, seconds: float | None = None) -> Decision:
    return Decision(step=Step.WAIT, reason=reason, message=message, requeue_after_seconds=seconds)
