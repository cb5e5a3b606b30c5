"""What should serve. Pure: an ordered chain of questions, and the first that has an answer decides.

1. Nothing to plan from?            keep what is deployed
2. Mode Recommend?                  show the plan, keep what is deployed
3. A plan (a pinned one always is)? deploy it
4. Nothing meets the budget?        keep what is deployed

In mode Automatic the number of replicas of what serves is adaptation's, once something was measured.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from cycleops.api.conditions import ServiceCondition
from cycleops.api.cycleservice import CycleServiceSpec, PlanningMode
from cycleops.api.cycleservice_status import Plan
from cycleops.api.reasons import Reason
from cycleops.service.deployed import Deployed, of_plan
from cycleops.service.finding import Finding
from cycleops.service.observation import Outcome, ServiceObservation

# How many times the predicted T a request may take when the user's own plan misses the budget.
_LATE = 10.0
# How many budgets a request of a feasible plan may take: beyond, the queue is overload and not a tail.
_OVERLOAD = 4.0


@dataclass(frozen=True, slots=True)
class Decision:
    """``deploy`` None leaves the children alone. ``plan`` is what status shows; adaptation may deploy other numbers."""

    deploy: Deployed | None
    plan: Plan | None
    feasible: Finding


Policy = Callable[[ServiceObservation], Decision | None]


def decide(observation: ServiceObservation) -> Decision:
    for policy in _CHAIN:
        decision = policy(observation)
        if decision is not None:
            return _scaled(decision, observation)
    raise AssertionError("the last policy always decides")


def _scaled(decision: Decision, observation: ServiceObservation) -> Decision:
    adapted, deploy = observation.adapted, decision.deploy
    if adapted is None or deploy is None or not observation.is_adapted:
        return decision
    return replace(decision, deploy=deploy.model_copy(update={"replicas": adapted.replicas}))


def _nothing_to_plan_from(observation: ServiceObservation) -> Decision | None:
    if observation.outcome is not None:
        return None
    waits = "there is nothing to plan from: see ModelReady"
    feasible = Finding(ServiceCondition.FEASIBLE, None, Reason.WAITING, waits)
    return Decision(observation.deployed, _serving_plan(observation), feasible)


def _only_recommended(observation: ServiceObservation) -> Decision | None:
    outcome = observation.outcome
    if outcome is None or outcome.plan is None or observation.spec.planning.mode is not PlanningMode.RECOMMEND:
        return None
    return Decision(observation.deployed, _dated(outcome.plan, observation), _feasible(observation))


def _deploy_the_plan(observation: ServiceObservation) -> Decision | None:
    outcome, model = observation.outcome, observation.evidence.model
    if outcome is None or outcome.plan is None or model is None:
        return None
    plan = _dated(outcome.plan, observation)
    deploy = of_plan(
        plan,
        model=model,
        batch_invariant=outcome.batch_invariant,
        requests_per_second=outcome.requests_per_second,
        budget_milliseconds=_shed_by(observation.spec, outcome),
        target_milliseconds=float(observation.spec.budget.latency.milliseconds),
    )
    return Decision(deploy, plan, _feasible(observation))


def _shed_by(spec: CycleServiceSpec, outcome: Outcome) -> float:
    """Milliseconds after which an answer is refused; of a model that generates, its first token.

    The budget is a percentile: the few requests beyond it are late, not lost. Only a queue of several budgets is
    overload, where refusing helps. A pinned plan that misses its budget must answer late: shedding would refuse all.
    """
    predicted = outcome.plan.predicted if outcome.plan else None
    first_token = spec.budget.generation.first_token_milliseconds if spec.budget.generation else None
    budget = float(first_token if first_token is not None else spec.budget.latency.milliseconds)
    if outcome.feasible or outcome.plan is None:
        return _OVERLOAD * budget
    late = (predicted.latency_ms if first_token is None else predicted.first_token_ms) if predicted else None
    return max(budget, _LATE * (late or budget))


def _keep_what_serves(observation: ServiceObservation) -> Decision:
    return Decision(observation.deployed, _serving_plan(observation), _feasible(observation))


_CHAIN: tuple[Policy, ...] = (_nothing_to_plan_from, _only_recommended, _deploy_the_plan, _keep_what_serves)


def _feasible(observation: ServiceObservation) -> Finding:
    outcome = observation.outcome
    assert outcome is not None
    return Finding(ServiceCondition.FEASIBLE, outcome.feasible, outcome.reason, outcome.message)


def _serving_plan(observation: ServiceObservation) -> Plan | None:
    """The plan in status as long as it is what serves; a stale recommendation goes."""
    plan, deployed, adaptation = observation.status.plan, observation.deployed, observation.status.adaptation
    if plan is None or deployed is None:
        return None
    same = (plan.variant, plan.hardware, plan.batch_size) == (deployed.variant, deployed.hardware, deployed.batch_size)
    numbers = (plan.replicas, *((adaptation.replicas,) if adaptation is not None else ()))
    return plan if same and deployed.replicas in numbers else None


def _dated(plan: Plan, observation: ServiceObservation) -> Plan:
    """With the time at which it became this plan, which stays as long as it does."""
    before = observation.status.plan
    if before is not None and before.model_copy(update={"time": None}) == plan:
        return before
    return plan.model_copy(update={"time": observation.now.replace(microsecond=0)})
