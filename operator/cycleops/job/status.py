"""The status that says where a CycleJob is. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from cycleops.api.conditions import Condition, ConditionStatus, JobCondition, find_condition, set_condition
from cycleops.api.cyclejob_status import CycleJobStatus, FailureStatus, WorkersStatus
from cycleops.api.reasons import Reason
from cycleops.controller.apply import Problem
from cycleops.controller.kinds import JOB_LABEL, ROLE_LABEL
from cycleops.job.decision import Decision, Step
from cycleops.job.goodput import account
from cycleops.job.observation import Observation
from cycleops.job.policies_end import deadline_left_seconds, world_problem
from cycleops.job.policies_run import silence_left_seconds, training_done

PROBLEM_RETRY_SECONDS = 10.0
_REASON_OF_PROBLEM = {"NameTaken": Reason.NAME_TAKEN, "Rejected": Reason.REFUSED, "Forbidden": Reason.REFUSED}
_ENDED = (Step.SUCCEED, Step.FAIL)
_ONE_NODE = {"ReadWriteOnce", "ReadWriteOncePod"}
_RUNNING = (Step.TRAIN, Step.RESTART, Step.COMPRESS, Step.PROFILE)


@dataclass(frozen=True, slots=True)
class _Claim:
    """One condition to be: ``status`` None is Unknown."""

    type: JobCondition
    status: bool | None
    reason: str
    message: str


def refused(decision: Decision, problems: Sequence[Problem]) -> Decision:
    """A job whose children were refused waits and says for what; one that ended stays ended."""
    if not problems or decision.step in _ENDED:
        return decision
    first = problems[0]
    message = "; ".join(f"{p.kind} {p.name}: {p.message}" if p.reason != "NameTaken" else p.message for p in problems)
    return Decision(Step.WAIT, _REASON_OF_PROBLEM[first.reason], message, PROBLEM_RETRY_SECONDS)


def status_of(o: Observation, decision: Decision) -> CycleJobStatus:
    """The whole status: what pods reported, times and counts, conditions."""
    status = o.evidence
    now = o.now.replace(microsecond=0)
    start = status.start_time
    if decision.step in _RUNNING:
        start = start or now
    elif decision.step is Step.SUSPEND:
        start = None  # as of a Job: the deadline begins anew when it resumes
    ended = decision.step in _ENDED
    ready = o.workers.ready if o.workers is not None and decision.step in (Step.TRAIN, Step.WAIT) else 0
    selector = f"{JOB_LABEL}={o.name},{ROLE_LABEL}=worker"
    return status.model_copy(
        update={
            "observed_generation": o.owner.generation,
            "conditions": _conditions(o, decision),
            "start_time": start,
            "completion_time": (status.completion_time or now) if ended else None,
            "goodput": account(o, decision),
            "workers": WorkersStatus(ready=ready, selector=selector),
            "restarts": max(status.restarts or 0, o.failures),
            **(_restarted(o, decision) if decision.step is Step.RESTART else {}),
        }
    )


def _restarted(o: Observation, decision: Decision) -> dict[str, object]:
    """The training's Job goes, and its count of failures with it: remember them, this one, and why."""
    failures = o.failures + 1
    failure = FailureStatus(reason=decision.reason, message=decision.message)
    return {"earlier_failures": failures, "restarts": failures, "failure": failure}


def requeue_after_seconds(o: Observation, decision: Decision, status: CycleJobStatus) -> float | None:
    """When to look again though nothing happens: a retry, the deadline, the TTL."""
    times = [decision.requeue_after_seconds]
    if decision.step in _ENDED:
        times.append(time_to_live_seconds(o, status))
    else:
        times += [deadline_left_seconds(o), silence_left_seconds(o, status.goodput)]
    return min((max(t, 0.0) + 0.05 for t in times if t is not None), default=None)


def time_to_live_seconds(o: Observation, status: CycleJobStatus) -> float | None:
    """Seconds until an ended job is to be deleted; None when it stays or hasn't ended."""
    seconds = o.spec.run_policy.ttl_seconds_after_finished
    if seconds is None or status.completion_time is None:
        return None
    return seconds - (o.now - status.completion_time).total_seconds()


def _conditions(o: Observation, decision: Decision) -> list[Condition]:
    conditions = list(o.job.status.conditions)
    for claim in _claims(o, decision):
        conditions = set_condition(
            conditions,
            type=claim.type,
            status=claim.status,
            reason=claim.reason,
            message=claim.message,
            generation=o.owner.generation,
            now=o.now,
        )
    return conditions


def _claims(o: Observation, decision: Decision) -> list[_Claim]:
    failed = decision.step is Step.FAIL
    succeeded = {Step.SUCCEED: True, Step.FAIL: False}.get(decision.step)
    return [
        _suspended(o),
        _admitted(o, decision),
        _world(o),
        _trained(o),
        _compressed(o),
        _profiled(o),
        _Claim(JobCondition.SUCCEEDED, succeeded, decision.reason, decision.message),
        _Claim(JobCondition.FAILED, True, decision.reason, decision.message)
        if failed
        else _Claim(JobCondition.FAILED, False, Reason.NOT_FAILED, ""),
    ]


def _suspended(o: Observation) -> _Claim:
    if o.spec.suspend:
        return _Claim(JobCondition.SUSPENDED, True, Reason.SUSPENDED, "spec.suspend is true: set it to false to go on")
    return _Claim(JobCondition.SUSPENDED, False, Reason.NOT_SUSPENDED, "")


def _admitted(o: Observation, decision: Decision) -> _Claim:
    running = decision.step in (*_RUNNING, Step.SUCCEED)
    if not running and not (decision.step is Step.FAIL and o.evidence.start_time is not None):
        return _Claim(JobCondition.ADMITTED, False, decision.reason, decision.message)
    before = find_condition(o.job.status.conditions, JobCondition.ADMITTED)
    if not o.claims and before is not None and before.status == ConditionStatus.TRUE:
        return _Claim(JobCondition.ADMITTED, True, before.reason, before.message)
    once = [claim for claim, modes in o.claims.items() if modes and set(modes) <= _ONE_NODE]
    if not once or o.spec.workers.replicas == 1:
        return _Claim(JobCondition.ADMITTED, True, Reason.ADMITTED, "")
    message = (
        f"claims that only one node can mount at a time: {', '.join(once)}; "
        "pods on other nodes will not start (use ReadWriteMany on a cluster of several nodes)"
    )
    return _Claim(JobCondition.ADMITTED, True, Reason.CLAIM_READ_WRITE_ONCE, message)


def _world(o: Observation) -> _Claim:
    world = o.evidence.world
    if world is None:
        return _Claim(JobCondition.WORLD_VERIFIED, None, Reason.PENDING, "rank 0 has not reported its world")
    before = find_condition(o.job.status.conditions, JobCondition.WORLD_VERIFIED)
    reported = any(delivery.message.kind == "World" for delivery in o.deliveries)
    problem = world_problem(o)
    if problem is not None:
        return _Claim(JobCondition.WORLD_VERIFIED, False, Reason.WORLD_MISMATCH, problem)
    if before is not None and before.status == ConditionStatus.FALSE and not reported:
        return _Claim(JobCondition.WORLD_VERIFIED, False, before.reason, before.message)
    text = f"{world.size} ranks on {', '.join(world.hosts)} over {world.transport}"
    return _Claim(JobCondition.WORLD_VERIFIED, True, Reason.WORLD_AS_SPECIFIED, text)


def _trained(o: Observation) -> _Claim:
    model = o.evidence.model
    if model is None or not training_done(o):
        return _Claim(JobCondition.TRAINED, None, Reason.PENDING, "")
    return _Claim(JobCondition.TRAINED, True, Reason.TRAINING_FINISHED, f"{model.uri} after {model.steps} steps")


def _compressed(o: Observation) -> _Claim:
    wanted, made = {v.name for v in o.spec.variants}, {v.name for v in o.evidence.variants}
    if not wanted <= made:
        return _Claim(JobCondition.COMPRESSED, None, Reason.PENDING, "")
    return _Claim(JobCondition.COMPRESSED, True, Reason.VARIANTS_MADE, ", ".join(sorted(wanted)))


def _profiled(o: Observation) -> _Claim:
    wanted = {(v.name, name) for v in o.spec.variants for name in o.profile_classes}
    if not wanted <= {(p.variant, p.hardware) for p in o.evidence.profiles}:
        return _Claim(JobCondition.PROFILED, None, Reason.PENDING, "")
    return _Claim(JobCondition.PROFILED, True, Reason.PROFILES_MADE, f"{len(wanted)} measurements")
