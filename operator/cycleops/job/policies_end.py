"""What ends a CycleJob early, and what keeps an ended one as it is. Pure; one plain line each."""

import math

from cycleops.api.conditions import ConditionStatus, JobCondition, find_condition
from cycleops.api.reasons import Reason
from cycleops.job import names
from cycleops.job.decision import Decision, Step, fail
from cycleops.job.observation import Observation


def already_ended(o: Observation) -> Decision | None:
    """A job that ended stays as it ended."""
    succeeded = find_condition(o.job.status.conditions, JobCondition.SUCCEEDED)
    if succeeded is None or succeeded.status is ConditionStatus.UNKNOWN:
        return None
    step = Step.SUCCEED if succeeded.status is ConditionStatus.TRUE else Step.FAIL
    return Decision(step=step, reason=succeeded.reason, message=succeeded.message)


def deadline_passed(o: Observation) -> Decision | None:
    """A job that is not done in activeDeadlineSeconds since its pods were made fails."""
    left = deadline_left_seconds(o)
    if left is None or left > 0.0:
        return None
    seconds = o.spec.run_policy.active_deadline_seconds
    return fail(
        Reason.DEADLINE_EXCEEDED,
        f"not done {seconds} s after its pods were made: raise spec.runPolicy.activeDeadlineSeconds in a new job",
    )


def deadline_left_seconds(o: Observation) -> float | None:
    """Seconds until the deadline; None when there is none, or the clock does not run (no pods yet, suspended)."""
    seconds, start = o.spec.run_policy.active_deadline_seconds, o.evidence.start_time
    if seconds is None or start is None or o.spec.suspend:
        return None
    return seconds - (o.now - start).total_seconds()


def wrong_world(o: Observation) -> Decision | None:
    """A job whose ranks, hosts or transport aren't those of its spec fails, whatever its exit code."""
    problem = world_problem(o)
    return fail(Reason.WORLD_MISMATCH, problem) if problem is not None else None


def world_problem(o: Observation) -> str | None:
    """How the reported world differs from the spec's; None when it doesn't, or wasn't reported."""
    world = o.evidence.world
    if world is None or o.spec.workers.hardware not in o.classes:
        return None
    replicas, slots = o.spec.workers.replicas, o.slots_per_host
    expected = sorted(host.split(".")[0] for host in names.worker_hosts(o.name, replicas=replicas))
    found = sorted(host.split(".")[0] for host in world.hosts)
    if world.size != replicas * slots:
        return (
            f"rank 0 found a world of {world.size} ranks on {', '.join(found)}, but spec.workers asks for "
            f"{replicas} workers x {slots} ranks = {replicas * slots}"
        )
    if found != expected:
        return f"rank 0 found ranks on {', '.join(found)}, but spec.workers asks for {', '.join(expected)}"
    if set(world.ranks_per_host) - {slots}:
        return f"rank 0 found {world.ranks_per_host} ranks per host, but spec.workers asks for {slots} on each"
    carrier = o.spec.workers.carrier
    if world.transport != carrier:
        return f"the ranks talk over {world.transport}, but spec.workers asks for {carrier}"
    for delivery in o.deliveries:
        report = delivery.message
        if report.kind == "World" and not math.isclose(report.all_reduce_sum, report.size * (report.size + 1) / 2):
            return f"an all-reduce over {report.size} ranks gave {report.all_reduce_sum}: the transport is broken"
    return None
