"""From the planner's words to those of the API. Pure."""

from cycleops.api.cycleprofile import CycleProfile
from cycleops.api.cycleservice import CycleServiceSpec, PinnedPlan, PlanningMode
from cycleops.api.cycleservice_status import FrontierPoint, NearestFeasible, Plan, Predicted, Rejected
from cycleops.api.reasons import Reason
from cycleops.planner import result as planned
from cycleops.service.evidence import Evidence
from cycleops.service.observation import Outcome

# The CRD's bounds.
_MOST_REJECTED, _MOST_FRONTIER, _MOST_NEAREST, _MOST_REASONS, _LONGEST = 256, 64, 16, 32, 1024


def outcome_of(
    result: planned.PlanResult, *, spec: CycleServiceSpec, evidence: Evidence, requests_per_second: float
) -> Outcome:
    pinned = spec.planning.pinned if spec.planning.mode is PlanningMode.PINNED else None
    profile = _profile_of(result, pinned, evidence)
    if pinned is not None and profile is None:
        return _not_measured(pinned, evidence)
    plan = None
    if result.plan is not None and (result.feasible or pinned):
        plan = _plan(result.plan, result, profile.metadata.name if profile else None)
    elif pinned is not None:
        plan = _unplannable(pinned)
    return Outcome(
        feasible=result.feasible,
        reason=_reason(result, pinned=pinned is not None),
        message=_message(result),
        plan=plan,
        requests_per_second=requests_per_second,
        batch_invariant=profile is not None and profile.spec.batch_invariant,
        tails_ms=_tails(result.plan),
        rejected=tuple(_rejected(r) for r in result.rejected[:_MOST_REJECTED]),
        nearest=tuple(_nearest(n) for n in result.nearest[:_MOST_NEAREST]),
        frontier=tuple(_frontier(p) for p in result.frontier[:_MOST_FRONTIER]),
        baseline_accuracy=result.baseline_accuracy,
    )


def _profile_of(result: planned.PlanResult, pinned: PinnedPlan | None, evidence: Evidence) -> CycleProfile | None:
    """The measurement of what would serve."""
    chosen: planned.Plan | PinnedPlan | None = pinned or result.plan
    if chosen is None:
        return None
    place = (chosen.variant, chosen.hardware)
    return next((p for p in evidence.profiles if (p.spec.variant, p.spec.hardware_class) == place), None)


def _not_measured(pinned: PinnedPlan, evidence: Evidence) -> Outcome:
    """Nothing is served that was not measured on that hardware."""
    there = ", ".join(sorted(f"{p.spec.variant} on {p.spec.hardware_class}" for p in evidence.profiles))
    message = (
        f"spec.planning.pinned: {pinned.variant} was not measured on {pinned.hardware}; there is {there}: pin one of "
        "these, or add the variant to the CycleJob's spec.variants"
    )
    return Outcome(feasible=False, reason=Reason.VARIANT_NOT_FOUND, message=message)


def _reason(result: planned.PlanResult, *, pinned: bool) -> Reason:
    if result.feasible:
        return Reason.PLAN_FOUND
    if pinned:
        return Reason.PINNED_INFEASIBLE
    # The planner's obstacles are reasons of this API.
    return next((r for r in Reason if result.obstacle and r.value == result.obstacle.value), Reason.LATENCY_INFEASIBLE)


def _message(result: planned.PlanResult) -> str:
    """What was found; when nothing was, what would do and its price."""
    nearest = [] if result.feasible else [n.message for n in result.nearest]
    return " ".join(dict.fromkeys([*result.sentences, *nearest]))


def _plan(plan: planned.Plan, result: planned.PlanResult, profile: str | None) -> Plan:
    return Plan(
        variant=plan.variant,
        hardware=plan.hardware,
        batch_size=plan.batch_size,
        delay_milliseconds=round(plan.delay_milliseconds, 3),
        replicas=plan.replicas,
        cost_per_hour=_money(plan.cost_per_hour),
        accuracy=plan.accuracy,
        predicted=_predicted(plan.predicted),
        profile=profile,
        reasons=[text[:_LONGEST] for text in result.sentences[:_MOST_REASONS]],
    )


def _unplannable(pinned: PinnedPlan) -> Plan:
    """A pinned plan that could not even be simulated serves all the same: the user decided."""
    return Plan(
        variant=pinned.variant,
        hardware=pinned.hardware,
        batch_size=pinned.batch_size,
        delay_milliseconds=float(pinned.delay_milliseconds),
        replicas=pinned.replicas,
    )


def _predicted(prediction: planned.Prediction) -> Predicted:
    generated = prediction.generation
    return Predicted(
        p50_ms=_ms(prediction.p50_ms),
        p99_ms=_ms(prediction.p99_ms),
        pre_ms=_ms(prediction.pre.p50_ms),
        compute_ms=_ms(prediction.compute.p50_ms),
        post_ms=_ms(prediction.post.p50_ms),
        queue_ms=_ms(prediction.queue.p50_ms),
        overhead_ms=_ms(prediction.overhead.p50_ms),
        latency_ms=_ms(prediction.latency_ms),
        low_ms=_ms(prediction.low_ms),
        high_ms=_ms(prediction.high_ms),
        utilization=round(prediction.utilization, 4),
        first_token_ms=_ms(generated.first_token.budgeted_ms) if generated else None,
        per_token_ms=_ms(generated.per_token.budgeted_ms) if generated else None,
    )


def _tails(plan: planned.Plan | None) -> dict[str, float]:
    if plan is None:
        return {}
    p = plan.predicted
    return {"queue": p.queue.p99_ms, "pre": p.pre.p99_ms, "compute": p.compute.p99_ms, "post": p.post.p99_ms}


def _rejected(rejected: planned.Rejected) -> Rejected:
    return Rejected(
        variant=rejected.variant,
        hardware=rejected.hardware,
        batch_size=rejected.batch_size,
        reason=rejected.reason.value,
        message=rejected.message[:_LONGEST],
    )


def _nearest(nearest: planned.NearestFeasible) -> NearestFeasible:
    return NearestFeasible(
        dimension=nearest.dimension.value,
        value=round(nearest.value, 6),
        cost_per_hour=_money(nearest.cost_per_hour),
        message=nearest.message[:_LONGEST],
    )


def _frontier(point: planned.FrontierPoint) -> FrontierPoint:
    return FrontierPoint(
        variant=point.variant,
        hardware=point.hardware,
        batch_size=point.batch_size,
        replicas=point.replicas,
        cost_per_hour=_money(point.cost_per_hour),
        p99_ms=_ms(point.p99_ms),
        accuracy=point.accuracy,
    )


def _ms(value: float) -> float:
    return round(value, 3)


def _money(value: float) -> float:
    return round(value, 6)
