"""The status of a CycleService. Pure: the same observation gives the same status, so a second pass writes nothing."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cycleops.api.conditions import Condition, ServiceCondition, is_true, set_condition
from cycleops.api.cycleservice import PlanningMode
from cycleops.api.cycleservice_status import CycleServiceStatus, Measured, Plan
from cycleops.api.reasons import Reason
from cycleops.controller.apply import Problem
from cycleops.service.adaptation import adaptation, profile_current
from cycleops.service.budget import budget_met
from cycleops.service.children import PROFILE_ROLE, Names
from cycleops.service.finding import Finding
from cycleops.service.observation import Outcome, ServiceObservation
from cycleops.service.policies import Decision
from cycleops.service.remeasure import remeasure
from cycleops.service.rollout import Rollout, rollout_of, worst


def new_status(observation: ServiceObservation, decision: Decision, problems: Sequence[Problem]) -> Mapping[str, Any]:
    """The whole status as plain JSON. ``problems`` are writes that the API server refused."""
    names = Names(observation.owner.name)
    server = rollout_of(observation.children.get(("Deployment", names.server)))
    balancer = rollout_of(observation.children.get(("Deployment", names.balancer)))
    adapted = adaptation(observation)
    remeasuring = remeasure(observation)
    findings = [
        observation.evidence.finding,
        decision.feasible,
        _plan_current(observation, decision, server),
        _ready(observation, decision, server, balancer),
        budget_met(observation),
        profile_current(observation, adapted),
        remeasuring.finding,
        _progressing(decision, server, balancer),
        _stalled(observation, server, balancer, problems),
    ]
    before, outcome = observation.status, observation.outcome
    model = observation.evidence.model or before.model
    profiles = [p.metadata.name for p in observation.evidence.profiles] or before.profiles
    shown = outcome if outcome is not None else _shown_before(before)
    status = CycleServiceStatus(
        observed_generation=observation.owner.generation,
        conditions=_conditions(observation, findings),
        url=_url(observation) if decision.deploy else None,
        model=model,
        profiles=profiles,
        plan=decision.plan,
        rejected=list(shown.rejected),
        nearest_feasible=list(shown.nearest),
        frontier=list(shown.frontier),
        measured=_measured(observation) or before.measured,
        adaptation=adapted,
        remeasurement=remeasuring.run,
        replicas=server.there,
        ready_replicas=server.ready,
        baseline_accuracy=shown.baseline_accuracy,
    )
    return status.to_dict()


def _url(observation: ServiceObservation) -> str:
    scheme = "https" if observation.spec.tls else "http"
    return f"{scheme}://{observation.owner.name}.{observation.owner.namespace}.svc"


def _conditions(observation: ServiceObservation, findings: Sequence[Finding]) -> list[Condition]:
    conditions = observation.status.conditions
    for f in findings:
        conditions = set_condition(
            conditions,
            type=f.type,
            status=f.status,
            reason=f.reason,
            message=f.message,
            generation=observation.owner.generation,
            now=observation.now,
        )
    return conditions


def _shown_before(before: CycleServiceStatus) -> Outcome:
    """While there is nothing to plan from, the reasons of the plan that serves stay."""
    return Outcome(
        feasible=False,
        reason=Reason.WAITING,
        message="",
        rejected=tuple(before.rejected),
        nearest=tuple(before.nearest_feasible),
        frontier=tuple(before.frontier),
        baseline_accuracy=before.baseline_accuracy,
    )


def _plan_current(observation: ServiceObservation, decision: Decision, server: Rollout) -> Finding:
    kind, plan = ServiceCondition.PLAN_CURRENT, decision.plan
    if observation.outcome is None or observation.outcome.plan is None or plan is None:
        return Finding(kind, False, Reason.NO_PLAN, "there is no plan for the spec as it is")
    name = f"{plan.variant} on {plan.hardware}, batch {plan.batch_size}, {plan.replicas} replica(s)"
    model = observation.evidence.model
    deploy = decision.deploy
    if deploy is not None and observation.is_adapted and deploy.replicas != plan.replicas:
        name += f"; {deploy.replicas} as adapted (status.adaptation says why)"
        plan = plan.model_copy(update={"replicas": deploy.replicas})
    if deploy is None or model is None or not deploy.serves(plan, model):
        return Finding(
            kind, False, Reason.RECOMMENDED, f"{name} is recommended; planning.mode Automatic would deploy it"
        )
    scaling = observation.is_adapted and server.available > 0 and _only_scales(observation, decision, server)
    if not server.complete and not scaling:
        return Finding(kind, False, Reason.PLAN_PENDING, f"{name} is being rolled out")
    return Finding(kind, True, Reason.PLAN_APPLIED, f"{name} serves")


def _only_scales(observation: ServiceObservation, decision: Decision, server: Rollout) -> bool:
    """Also while the Deployment's controller has not looked yet at the replicas that were just asked for."""
    if server.seen:
        return server.only_scales
    before, plan = observation.status.plan, decision.plan
    applied = is_true(observation.status.conditions, ServiceCondition.PLAN_CURRENT)
    return applied and before is not None and plan is not None and _pods_of(before) == _pods_of(plan)


def _pods_of(plan: Plan) -> tuple[str, str, int, float]:
    return plan.variant, plan.hardware, plan.batch_size, plan.delay_milliseconds


def _ready(observation: ServiceObservation, decision: Decision, server: Rollout, balancer: Rollout) -> Finding:
    kind, mode = ServiceCondition.READY, observation.spec.planning.mode
    if decision.deploy is None:
        why = "planning.mode is Recommend" if mode is PlanningMode.RECOMMEND else "see ModelReady and Feasible"
        return Finding(kind, False, Reason.NO_PLAN, f"nothing is deployed: {why}")
    pods = f"{server.available} of {server.wanted} server pods are ready"
    adapted = observation.adapted if observation.is_adapted else None
    # Those that adaptation adds are not missed until they are there.
    wanted = server.wanted if adapted is None else min(server.wanted, adapted.fewest)
    if server.available < max(wanted, 1):
        return Finding(kind, False, Reason.REPLICAS_UNAVAILABLE, pods)
    if balancer.available == 0:  # a balancer's first readiness waits for a server pod: theirs comes first
        return Finding(kind, False, Reason.BALANCER_UNAVAILABLE, "no balancer pod is ready")
    if observation.outcome is None or observation.outcome.plan is None:
        return Finding(kind, True, Reason.OLD_PLAN_SERVES, f"{pods}, of the plan before: see ModelReady and Feasible")
    return Finding(kind, True, Reason.REPLICAS_READY, pods)


def _progressing(decision: Decision, server: Rollout, balancer: Rollout) -> Finding:
    kind = ServiceCondition.PROGRESSING
    if decision.deploy is None or (server.complete and balancer.complete):
        return Finding(kind, False, Reason.AS_EXPECTED, "every pod is as it should be")
    parts = (("server", server), ("balancer", balancer))
    message = ", ".join(f"{r.updated} of {r.wanted} {n} pods are new and {r.available} ready" for n, r in parts)
    return Finding(kind, True, Reason.ROLLING_OUT, message)


def _stalled(
    observation: ServiceObservation, server: Rollout, balancer: Rollout, problems: Sequence[Problem]
) -> Finding:
    kind = ServiceCondition.STALLED
    if problems:
        taken = problems[0].reason == "NameTaken"
        return Finding(kind, True, Reason.NAME_TAKEN if taken else Reason.REFUSED, problems[0].message)
    if observation.missing_claim:
        claim = (
            f"PersistentVolumeClaim {observation.missing_claim} does not exist in this namespace: the model is on it"
        )
        return Finding(kind, True, Reason.CLAIM_NOT_FOUND, claim)
    missing = [name for name, version in observation.secrets.items() if not version]
    if missing:
        secret = f"Secret {missing[0]}, which spec.tls or spec.auth names, does not exist in this namespace"
        return Finding(kind, True, Reason.SECRET_NOT_FOUND, secret)
    broken = worst(pod for pod in observation.pods if pod.role != PROFILE_ROLE)
    if broken is not None:
        return Finding(kind, True, broken.reason, broken.problem)
    stalled = server.stalled or balancer.stalled
    if stalled:
        return Finding(kind, True, Reason.ROLLOUT_STALLED, stalled)
    return Finding(kind, False, Reason.AS_EXPECTED, "nothing stands in the way")


_TOKENS = {"first_token_ms": "firstToken", "per_token_ms": "perToken"}  # of a model that generates


def _measured(observation: ServiceObservation) -> Measured | None:
    window = observation.measurement.measured
    if window is None:
        return None
    total = window.terms["total"]
    terms = [term for term in ("pre", "compute", "post", "queue", "overhead") if term in window.terms]
    return Measured(
        p50_ms=total.p50,
        p99_ms=total.p99,
        latency_ms=total.budgeted,
        **{f"{term}_ms": window.terms[term].p50 for term in terms},
        **{f: window.terms[term].budgeted for f, term in _TOKENS.items() if term in window.terms},
        requests=window.requests,
        requests_per_second=round(window.requests_per_second, 3),
        errors=window.errors,
        cache_hit_ratio=round(window.hits / window.requests, 4),
        window_seconds=round(window.window_seconds, 1),
        time=datetime.fromtimestamp(int(window.ended_at), tz=UTC),
    )
