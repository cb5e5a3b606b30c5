"""What status says of adaptation, and whether the profile still holds. Pure.

Numbers change with every scrape, and a status that changes by itself is written for ever. So what was said stands until
the number of replicas changes, or trouble begins or ends, and is renewed at most every ten minutes while requests come.
"""

from datetime import datetime

from cycleops.api.conditions import ServiceCondition
from cycleops.api.cycleservice import CycleServiceSpec, PlanningMode
from cycleops.api.cycleservice_status import Adaptation
from cycleops.api.reasons import Reason, ScalingReason
from cycleops.planner.adaptation.correction import KNOWN_TO
from cycleops.service.finding import Finding
from cycleops.service.observation import Adapted, ServiceObservation

RENEW_SECONDS = 600.0
_TROUBLE = (ScalingReason.AT_MAXIMUM, ScalingReason.MEASUREMENT_STALE)
_LONGEST = 1024


def adaptation(observation: ServiceObservation) -> Adaptation | None:
    """What status is to say: what it said before, unless that is news."""
    before, adapted = observation.status.adaptation, observation.adapted
    if observation.deployed is None:
        return None
    if adapted is None or (before is None and adapted.memory.state.measured_at is None):
        return before
    new = _said(adapted, observation.spec, observation.now)
    if before is None or _news(before, new) or _aged(before, adapted, observation.now):
        return new
    return before


def _said(adapted: Adapted, spec: CycleServiceSpec, now: datetime) -> Adaptation:
    decision, correction = adapted.decision, adapted.memory.state.correction
    low, high = correction.interval()
    would = spec.planning.mode is PlanningMode.RECOMMEND
    message = f"planning.mode is Recommend, else: {decision.message}" if would else decision.message
    return Adaptation(
        replicas=adapted.replicas,
        fewest=adapted.fewest,
        most=adapted.most,
        reason=decision.reason.value,
        message=message[:_LONGEST],
        requests_per_second=round(decision.forecast_per_second, 3),
        slowness=round(correction.slowness, 3),
        slowness_low=round(low, 3),
        slowness_high=round(high, 3),
        counted_hit_ratio=adapted.memory.hits.counted,
        stale=[sentence[:_LONGEST] for sentence in _stale(adapted)],
        time=now.replace(microsecond=0),
        memory=adapted.memory.dump(),
    )


def _stale(adapted: Adapted) -> list[str]:
    """Sentences. A slowness that plans count stays said until plans don't."""
    found = list(adapted.decision.profile_stale)
    planned = adapted.memory.planned_slowness
    if planned > 1.0 and not any(sentence.startswith("compute") for sentence in found):
        found.insert(0, f"compute took longer than the profile says: plans count {planned:.2f} x")
    return found


def _news(before: Adaptation, new: Adaptation) -> bool:
    if (before.replicas, before.fewest, before.most) != (new.replicas, new.fewest, new.most):
        return True
    if before.counted_hit_ratio != new.counted_hit_ratio or _kinds(before) != _kinds(new):
        return True
    return before.reason != new.reason and (before.reason in _TROUBLE or new.reason in _TROUBLE)


def _kinds(said: Adaptation) -> list[str]:
    """Which things are stale, without the numbers."""
    return [sentence.split()[0] for sentence in said.stale]


def _aged(before: Adaptation, adapted: Adapted, now: datetime) -> bool:
    asked = adapted.memory.asked_at > before.time.timestamp()
    return asked and (now - before.time).total_seconds() >= RENEW_SECONDS


def profile_current(observation: ServiceObservation, said: Adaptation | None) -> Finding:
    """``said``: what status says of adaptation; the message has its numbers, so it changes only with them."""
    kind = ServiceCondition.PROFILE_CURRENT
    if said is None:
        return Finding(kind, None, Reason.NOT_MEASURED, "no request was measured yet")
    if said.stale:
        return Finding(kind, False, Reason.PROFILE_STALE, f"{'; '.join(said.stale)}. {_advice(observation)}")
    numbers = f"compute takes {said.slowness:.2f} x what the profile says ({said.slowness_low:.2f} to "
    numbers += f"{said.slowness_high:.2f})"
    if said.slowness_high > said.slowness * (1 + 2 * KNOWN_TO):
        return Finding(kind, None, Reason.NOT_MEASURED, "too few requests were measured to judge the profile")
    return Finding(kind, True, Reason.PROFILE_HOLDS, numbers)


def _advice(observation: ServiceObservation) -> str:
    plan = observation.status.plan
    on = f" on {plan.hardware}" if plan is not None else ""
    return f"Plans count compute{on} as slow as it is measured; the condition Remeasuring says what else is done"
