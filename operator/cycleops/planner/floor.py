"""The accuracy floor: which candidates have evidence that they may serve."""

from collections.abc import Sequence
from dataclasses import dataclass

from cycle_wire.metrics import higher_is_better
from cycleops.planner.model import AccuracyFloor, Candidate
from cycleops.planner.result import Rejected, RejectReason

_TOLERANCE = 1e-12  # a drop of exactly the maximum is allowed, whatever binary fractions say


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``minimum``: the floor as a value of the metric, None when it can't be known."""

    accuracy: float | None
    minimum: float | None
    rejected: Rejected | None


def judge(*, candidate: Candidate, floor: AccuracyFloor | None, candidates: Sequence[Candidate]) -> Verdict:
    """Without a floor every candidate passes; its accuracy is then its first metric that is better when higher."""
    if floor is None:
        values = (metric.value for metric in candidate.profile.metrics if higher_is_better(metric.name))
        return Verdict(accuracy=next(values, None), minimum=None, rejected=None)
    value = candidate.metric(floor.metric)
    if value is None:
        reason = f"{candidate.label} was not evaluated on {floor.metric}"
        return _no(candidate, RejectReason.METRIC_MISSING, reason, None, None)
    minimum = minimum_of(floor=floor, hardware=candidate.hardware.name, candidates=candidates)
    if minimum is None:
        reason = f"the baseline {floor.baseline} was not evaluated on {floor.metric}, so the largest drop has no start"
        return _no(candidate, RejectReason.BASELINE_MISSING, reason, value, None)
    if value < minimum - _TOLERANCE:
        return _no(
            candidate, RejectReason.BELOW_ACCURACY_FLOOR, _below(candidate, floor, value, minimum), value, minimum
        )
    return Verdict(accuracy=value, minimum=minimum, rejected=None)


def minimum_of(*, floor: AccuracyFloor, hardware: str, candidates: Sequence[Candidate]) -> float | None:
    """The floor as a value. The baseline counts as measured on the same hardware, else where it was best."""
    if floor.minimum is not None:
        return floor.minimum
    baseline = baseline_value(floor=floor, hardware=hardware, candidates=candidates)
    return None if baseline is None or floor.maximum_drop is None else baseline - floor.maximum_drop


def baseline_value(*, floor: AccuracyFloor, hardware: str | None, candidates: Sequence[Candidate]) -> float | None:
    known = {
        candidate.hardware.name: value
        for candidate in candidates
        if candidate.profile.variant == floor.baseline and (value := candidate.metric(floor.metric)) is not None
    }
    return known.get(hardware or "", max(known.values(), default=None))


def _below(candidate: Candidate, floor: AccuracyFloor, value: float, minimum: float) -> str:
    text = f"{floor.metric} of {candidate.label} is {value:.4f}, below the floor of {minimum:.4f}"
    if floor.maximum_drop is not None:
        text += f" ({floor.baseline} less {floor.maximum_drop:g})"
    return text


def _no(
    candidate: Candidate, reason: RejectReason, message: str, accuracy: float | None, minimum: float | None
) -> Verdict:
    rejected = Rejected(
        variant=candidate.profile.variant,
        hardware=candidate.hardware.name,
        batch_size=None,
        reason=reason,
        message=message,
    )
    return Verdict(accuracy=accuracy, minimum=minimum, rejected=rejected)
