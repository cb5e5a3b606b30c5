"""Whether measured T is within the budget, and which term broke it. Pure."""

from collections.abc import Mapping

from cycleops.api.conditions import Condition, ConditionStatus, ServiceCondition, find_condition
from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.api.reasons import Reason
from cycleops.service.finding import Finding
from cycleops.service.histograms import Measured
from cycleops.service.observation import ServiceObservation

# Fewer requests say nothing of a tail: with n requests the worst stands at the percentile 100 x (1 - 1/n).
MINIMUM_REQUESTS = 20
_PARTS = ("queue", "pre", "compute", "post")
_KEPT = {
    Reason.BUDGET_MET: True,
    Reason.BUDGET_BROKEN: False,
    Reason.MEASUREMENT_STALE: None,
    Reason.NOT_MEASURED: None,
}


def budget_met(observation: ServiceObservation) -> Finding:
    """Judges the newest window; without a new one the last judgement stands, as long as the spec it was of."""
    measurement = observation.measurement
    if measurement.stale:
        return _finding(None, Reason.MEASUREMENT_STALE, measurement.stale)
    measured = measurement.measured
    if measured is None:
        return _before(observation) or _finding(None, Reason.NOT_MEASURED, "no request was measured yet")
    if measured.requests < MINIMUM_REQUESTS:
        few = f"{measured.requests} requests in {measured.window_seconds:.0f} s are too few to judge a tail"
        return _before(observation) or _finding(None, Reason.NOT_MEASURED, few)
    tails = observation.outcome.tails_ms if observation.outcome else {}
    return _judge(observation.spec, measured, tails)


def _finding(status: bool | None, reason: Reason, message: str) -> Finding:
    return Finding(ServiceCondition.BUDGET_MET, status, reason, message)


def _before(observation: ServiceObservation) -> Finding | None:
    condition = find_condition(observation.status.conditions, ServiceCondition.BUDGET_MET)
    if condition is None or condition.observed_generation != observation.owner.generation:
        return None
    return _again(condition)


def _again(condition: Condition) -> Finding | None:
    reason = next((r for r in _KEPT if r == condition.reason), None)
    if reason is None or reason is Reason.MEASUREMENT_STALE:
        return None  # the numbers are fresh again, and there are none
    status = {ConditionStatus.TRUE: True, ConditionStatus.FALSE: False}.get(condition.status)
    return _finding(status, reason, condition.message)


def _judge(spec: CycleServiceSpec, measured: Measured, tails: Mapping[str, float]) -> Finding:
    percentile, budget = spec.budget.latency.percentile, float(spec.budget.latency.milliseconds)
    total = measured.terms["total"].budgeted
    name = f"p{percentile.normalize():f}"
    said = f"measured {name} of T is {total:.1f} ms, the budget is {budget:g} ms"
    if total > budget:
        return _finding(False, Reason.BUDGET_BROKEN, f"{said}: {_blame(measured, tails)}")
    for stage, cap in _caps(spec).items():
        found = measured.terms.get(stage)
        if found is not None and found.budgeted > cap:
            broken = f"measured {name} of {stage} is {found.budgeted:.1f} ms, its cap is {cap:g} ms ({said})"
            return _finding(False, Reason.BUDGET_BROKEN, broken)
    return _finding(True, Reason.BUDGET_MET, said)


def _caps(spec: CycleServiceSpec) -> dict[str, float]:
    stages, tokens = spec.budget.stages, spec.budget.generation
    caps = {
        "pre": stages.pre_milliseconds if stages else None,
        "post": stages.post_milliseconds if stages else None,
        "firstToken": tokens.first_token_milliseconds if tokens else None,
        "perToken": tokens.per_token_milliseconds if tokens else None,
    }
    return {stage: float(cap) for stage, cap in caps.items() if cap is not None}


def _blame(measured: Measured, tails: Mapping[str, float]) -> str:
    """The term that is furthest above the tail that was predicted of it."""
    above = {term: measured.terms[term].budgeted - tails.get(term, 0.0) for term in _PARTS if term in measured.terms}
    if not above:
        return "no server answered a request, so it is the balancer's, the cache's or the network's time"
    worst = max(above, key=lambda term: above[term])
    numbers = ", ".join(
        f"{term} {measured.terms[term].budgeted:.1f} ms" + (f" (predicted p99 {tails[term]:.1f})" if tails else "")
        for term in above
    )
    return f"{worst} is the furthest above its prediction; at this percentile: {numbers}"
