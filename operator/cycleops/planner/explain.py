"""Reasons in sentences, each with its numbers."""

import math
from collections.abc import Sequence

from cycleops.planner.choice import Able, Choice, Prepared
from cycleops.planner.evaluate import Evaluator
from cycleops.planner.model import Budget, Candidate, Headroom
from cycleops.planner.option import Option
from cycleops.planner.prepare import Problem, delays_seconds, rejection
from cycleops.planner.replicas import Rank, cost_of
from cycleops.planner.result import NearestFeasible, Obstacle, Plan, Prediction, Rejected, RejectReason
from cycleops.planner.traffic import length_quantile


def above_capacity(problem: Problem, evaluator: Evaluator, prepared: Prepared, batch_size: int, most: int) -> Rejected:
    rate, full = evaluator.miss_rate_per_second, evaluator.batch_seconds(prepared, batch_size)
    left = problem.limits.headroom.left_of(most)
    if not left:
        message = f"{replicas_text(most)}, the most allowed, leave none after the loss that is asked for"
        return rejection(prepared.candidate, batch_size, RejectReason.RATE_ABOVE_CAPACITY, message)
    share = evaluator.load(prepared, batch_size, left)
    message = (
        f"{_rate_text(rate)} requests/s on {_left_text(left, most)} of {prepared.candidate.label} with full batches of "
        f"{batch_size} ({1000 * full:.1f} ms) is a load of {share:.1%}"
    )
    if share <= problem.settings.maximum_utilization:
        wait = evaluator.wait_bound_milliseconds(prepared, batch_size=batch_size, replicas=left)
        message += f", and the wait alone is at least {wait:.1f} ms at p{problem.budget.percentile:g}"
    else:
        message += f", above the {problem.settings.maximum_utilization:.0%} that is planned at most"
    return rejection(prepared.candidate, batch_size, RejectReason.RATE_ABOVE_CAPACITY, message)


def out_of_replicas(problem: Problem, evaluator: Evaluator, prepared: Prepared, batch_size: int, most: int) -> Rejected:
    left = problem.limits.headroom.left_of(most)
    delay = delays_seconds(problem, evaluator, prepared, batch_size, left)[0]
    choice = Choice(batch_size=batch_size, delay_seconds=delay, replicas=left)
    sizing = evaluator.size(prepared, choice)
    more = f" with {_more(problem)} requests" if evaluator.is_tight(prepared, choice) else ""
    message = (
        f"with {_left_text(left, most)}, the most allowed, p{problem.budget.percentile:g} is "
        f"{sizing.sized_at_ms:.1f} ms{more}, above {problem.budget.latency_milliseconds:g} ms (at p99: queue "
        f"{sizing.queue_p99_ms:.1f} ms, compute {sizing.compute_p99_ms:.1f} ms)"
    )
    return rejection(prepared.candidate, batch_size, RejectReason.REPLICA_LIMIT, message)


def too_dear(
    problem: Problem, evaluator: Evaluator, prepared: Prepared, batch_size: int, replicas: int, best: Option
) -> Rejected:
    """``best``: what was found before. As cheap is too dear for what is less accurate."""
    cost, limit = cost_of(prepared, replicas), best.cost_per_hour
    message = f"needs {replicas_text(replicas)} or more, {cost:g} per hour; the budget is held for {limit:g}"
    if cost <= limit:
        message += f", at an accuracy of {accuracy_text(best.prepared)} against {accuracy_text(prepared)}"
        return rejection(prepared.candidate, batch_size, RejectReason.LESS_ACCURATE, message)
    if replicas > 1:
        left = problem.limits.headroom.left_of(replicas - 1)
        less = f"{replicas - 1}" if left == replicas - 1 else f"{left} left of {replicas - 1}"
        if left:
            message += f". With {less} {_why_not(problem, evaluator, prepared, batch_size, left)}"
    return rejection(prepared.candidate, batch_size, RejectReason.COSTLIER, message)


def _why_not(problem: Problem, evaluator: Evaluator, prepared: Prepared, batch_size: int, replicas: int) -> str:
    """The numbers that speak against so few replicas."""
    seen = evaluator.known(prepared, Choice(batch_size=batch_size, delay_seconds=0.0, replicas=replicas))
    share = evaluator.load(prepared, batch_size, replicas)
    if seen is not None:
        text = f"the latency is {seen.sized_at_ms:.1f} ms"
        if seen.sized_at_ms > problem.budget.latency_milliseconds:
            return text
        return f"{text}, but the load {share:.1%}, and {_more(problem)} requests break the budget"
    wait = evaluator.wait_bound_milliseconds(prepared, batch_size=batch_size, replicas=replicas)
    bound = f" and the wait at least {wait:.1f} ms" if math.isfinite(wait) else ""
    return f"the load is {share:.1%} of what full batches carry{bound}"


def _more(problem: Problem) -> str:
    return f"{problem.settings.tight_growth - 1:.0%} more"


def beaten(option: Option, best: Option) -> Rejected:
    choice, percentile = option.choice, option.sizing.percentile
    return lost_to(
        best.rank, option.rank, one=option.prepared, best=best.prepared, size=choice.batch_size,
        replicas=choice.replicas, percentile=percentile,
    )  # fmt: skip


def lost_to(
    best_rank: Rank, rank: Rank, *, one: Able, best: Able, size: int, replicas: int, percentile: float
) -> Rejected:
    """What holds the budget too, and is no better."""
    cost, latency = rank[0], rank[2]
    needs = f"holds the budget with {replicas_text(replicas)} at {cost:g} per hour"
    if cost > best_rank[0]:
        reason, message = RejectReason.COSTLIER, f"{needs}; the plan costs {best_rank[0]:g}"
    elif rank[1] > best_rank[1]:
        reason = RejectReason.LESS_ACCURATE
        message = (
            f"{needs}, as cheap as the plan, but its accuracy is {accuracy_text(one)} against {accuracy_text(best)}"
        )
    else:
        reason = RejectReason.SLOWER
        times = f"{latency:.1f} ms against {best_rank[2]:.1f} ms"
        message = f"{needs}, as cheap and accurate as the plan, but its p{percentile:g} is {times}"
    return rejection(one.candidate, size, reason, message)


def beaten_by_mix(option: Option, cost: float) -> Rejected:
    choice, own = option.choice, option.cost_per_hour
    message = f"holds the budget with {replicas_text(choice.replicas)} at {own:g} per hour; the mix costs {cost:g}"
    return rejection(option.prepared.candidate, choice.batch_size, RejectReason.COSTLIER, message)


def replicas_text(count: int) -> str:
    return f"{count} replica" if count == 1 else f"{count} replicas"


def _left_text(left: int, of: int) -> str:
    return replicas_text(of) if left == of else f"{left} left of {replicas_text(of)}"


def describe(plan: Plan) -> str:
    groups = (f"{one.hardware}, batch {one.batch_size}, {replicas_text(one.replicas)}" for one in plan.groups)
    return f"{plan.variant} on {' and '.join(groups)}"


def of_plan(problem: Problem, plan: Plan) -> list[str]:
    """Why this plan, and how sure."""
    predicted, budget = plan.predicted, problem.budget
    terms = {name: getattr(predicted, name).p99_ms for name in ("queue", "pre", "compute", "post", "overhead")}
    largest = max(terms, key=lambda name: terms[name])
    sentences = [
        f"{describe(plan)}, costs {plan.cost_per_hour:g} per hour; predicted p{budget.percentile:g} is "
        f"{predicted.latency_ms:.1f} ms ({predicted.low_ms:.1f} to {predicted.high_ms:.1f}) of the budget's "
        f"{budget.latency_milliseconds:g} ms, the compute thread busy {predicted.utilization:.0%} of the time.",
        f"The largest term at p99 is {largest} with {terms[largest]:.1f} ms; batches hold {predicted.mean_batch:.2f} "
        "requests on average.",
    ]
    sentences += of_tight_load(problem, plan)
    if plan.accuracy is not None and budget.accuracy is not None:
        sentences.append(f"{budget.accuracy.metric} measured on {plan.hardware} is {plan.accuracy:.4f}.")
    if predicted.cache_hit_ratio > 0:
        sentences.append(
            f"The cache is expected to answer {predicted.cache_hit_ratio:.0%} of the requests; replicas are counted "
            f"with {problem.workload.cache_hit_ratio_lower:.0%}, the lower bound of what was measured."
        )
    sentences += of_classes(budget, predicted)
    sentences += of_headroom(problem.limits.headroom, plan)
    if predicted.high_ms > budget.latency_milliseconds:
        sentences.append(
            f"The band's high end, {predicted.high_ms:.1f} ms, is above the budget: this plan may break it."
        )
    return sentences


def of_tight_load(problem: Problem, plan: Plan) -> list[str]:
    load = plan.predicted.load
    if load <= problem.settings.tight_from:
        return []
    return [
        f"The rate is {load:.0%} of what full batches carry, so the budget is also held by {_more(problem)} requests."
    ]


def of_classes(budget: Budget, predicted: Prediction) -> list[str]:
    return [
        f"Class {one.name}: p{one.percentile:g} is {one.latency_ms:.1f} ms of its "
        f"{one.latency_share * budget.latency_milliseconds:g} ms."
        for one in predicted.classes
    ]


def of_headroom(headroom: Headroom, plan: Plan) -> list[str]:
    losses = []
    if headroom.replicas:
        losses.append(f"any {replicas_text(headroom.replicas)}" if headroom.replicas > 1 else "any one replica")
    if headroom.zones:
        lost = sum(-(-group.replicas // headroom.zones) for group in plan.groups)
        losses.append(f"one of {headroom.zones} zones ({replicas_text(lost)} at most)")
    return [f"The budget is also held after the loss of {' or of '.join(losses)}."] if losses else []


def of_range(problem: Problem, longest_measured: int) -> list[str]:
    """Inputs beyond the measured lengths, few enough to plan with but not to keep quiet about."""
    far = length_quantile(problem.workload, 99.9)
    if far <= longest_measured:
        return []
    return [
        f"One input in 1,000 is longer than {far:.0f} tokens, and lengths were measured up to {longest_measured}: "
        "the compute of those beyond is extrapolated."
    ]


def of_evidence(candidates: Sequence[Candidate]) -> list[str]:
    """Profiles that are stale, and those that are missing: a variant measured here and not there."""
    sentences = [f"The profile of {one.label} is stale: {one.stale}." for one in candidates if one.stale]
    there = {(one.profile.variant, one.hardware.name) for one in candidates}
    variants, classes = sorted({variant for variant, _ in there}), sorted({name for _, name in there})
    missing = [f"{v} on {name}" for v in variants for name in classes if (v, name) not in there]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        sentences.append(f"Never measured, so not considered: {', '.join(missing[:_NAMED])}{more}.")
    return sentences


_NAMED = 8  # of what is missing
_OBSTACLES = {
    Obstacle.NO_PROFILES: "There is no usable profile: profile the model's variants on the hardware of the spec.",
    Obstacle.LENGTHS: "The traffic has longer inputs than any that was measured: measure longer ones (sequenceLengths "
    "of the CycleJob's spec.profile), or expect shorter ones.",
    Obstacle.ACCURACY: "No variant that was measured reaches the accuracy floor.",
    Obstacle.STAGE: "No candidate meets the caps by term, however many replicas there are.",
    Obstacle.LATENCY: "No candidate is fast enough even on an idle server.",
    Obstacle.CAPACITY: "The replicas that are allowed can't carry the rate within the budget.",
    Obstacle.PINNED: "The pinned plan does not meet the budget.",
}


def of_obstacle(obstacle: Obstacle, nearest: Sequence[NearestFeasible], *, budget: Budget) -> list[str]:
    """What stands in the way, with what was asked for, then what would be feasible."""
    sentences = [f"{_OBSTACLES[obstacle]} Asked for: {_asked(budget)}.", *(item.message for item in nearest)]
    return sentences if nearest else [*sentences, "No single change of latency, accuracy, rate or replicas was found."]


def _asked(budget: Budget) -> str:
    latency = f"p{budget.percentile:g} of T within {budget.latency_milliseconds:g} ms"
    tokens = {"to first": budget.first_token_milliseconds, "per": budget.per_token_milliseconds}
    latency += "".join(f", time {name} token within {cap:g} ms" for name, cap in tokens.items() if cap is not None)
    floor = budget.accuracy
    if floor is None:
        return latency
    if floor.minimum is not None:
        return f"{latency}, {floor.metric} of at least {floor.minimum:g}"
    return f"{latency}, {floor.metric} at most {floor.maximum_drop:g} below that of {floor.baseline}"


def accuracy_text(one: Able) -> str:
    return "unknown" if one.accuracy is None else f"{one.accuracy:.4f}"


def _rate_text(rate_per_second: float) -> str:
    return f"{rate_per_second:,.2f}".rstrip("0").rstrip(".")
