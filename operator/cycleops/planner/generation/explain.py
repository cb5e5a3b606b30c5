"""Reasons in sentences for a model that generates, each with its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cycleops.planner.explain import accuracy_text, lost_to, of_classes, of_headroom, of_tight_load, replicas_text
from cycleops.planner.generation.evaluate import GenerationChoice, GenerationEvaluator, Generator
from cycleops.planner.generation.outcomes import NAMES, broken, caps_of
from cycleops.planner.prepare import Problem, rejection
from cycleops.planner.replicas import cost_of
from cycleops.planner.result import Dimension, Generated, Plan, Rejected, RejectReason

if TYPE_CHECKING:
    from cycleops.planner.generation.search import GenerationOption


def describe(plan: Plan) -> str:
    return f"{plan.variant} on {plan.hardware}, {plan.batch_size} sequences at once, {replicas_text(plan.replicas)}"


def idle_breaks(problem: Problem, evaluator: GenerationEvaluator, one: Generator) -> Rejected | None:
    """A cap that a server without other requests breaks."""
    idle, percentile = evaluator.idle(one), problem.budget.percentile
    for dimension, cap in caps_of(problem.budget).items():
        if idle[dimension] > cap:
            message = (
                f"p{percentile:g} of {NAMES[dimension]} of {one.candidate.label} is {idle[dimension]:.1f} ms even on "
                f"an idle server, above {cap:g} ms: more replicas can't help"
            )
            whole = dimension is Dimension.LATENCY
            reason = RejectReason.LATENCY_FLOOR if whole else RejectReason.STAGE_CAP
            return rejection(one.candidate, None, reason, message)
    return None


def above_capacity(
    problem: Problem, evaluator: GenerationEvaluator, one: Generator, sequences: int, most: int
) -> Rejected:
    left = problem.limits.headroom.left_of(most)
    if left == 0:
        message = f"the headroom that is asked for leaves none of the {replicas_text(most)} that are allowed"
        return rejection(one.candidate, sequences, RejectReason.RATE_ABOVE_CAPACITY, message)
    seconds, load = evaluator.request_seconds(one, sequences), evaluator.load(one, sequences, left)
    message = (
        f"{evaluator.miss_rate_per_second:g} requests/s on {replicas_text(left)} of {one.candidate.label} with "
        f"{sequences} sequences at once ({1000 * seconds:.1f} ms of compute each) is a load of {load:.1%}, above the "
        f"{problem.settings.maximum_utilization:.0%} that is planned at most"
    )
    return rejection(one.candidate, sequences, RejectReason.RATE_ABOVE_CAPACITY, message)


def out_of_replicas(one: Generator, sequences: int, left: int, broken_caps: Sequence[str]) -> Rejected:
    """``left``: of the most that are allowed, less what may be lost."""
    message = f"with {replicas_text(left)}, the most that can be counted on, {'; '.join(broken_caps)}"
    return rejection(one.candidate, sequences, RejectReason.REPLICA_LIMIT, message)


def too_dear(
    problem: Problem,
    evaluator: GenerationEvaluator,
    one: Generator,
    choice: GenerationChoice,
    best: GenerationOption,
) -> Rejected:
    """``choice`` is the least that may hold; ``best``: what was found before. As cheap is too dear for what is less
    accurate.
    """
    sequences, replicas = choice.sequences, choice.replicas
    cost = cost_of(one, replicas)
    message = (
        f"needs {replicas_text(replicas)} or more, {cost:g} per hour; the budget is held for {best.cost_per_hour:g}"
    )
    if cost <= best.cost_per_hour:
        message += f", at an accuracy of {accuracy_text(best.one)} against {accuracy_text(one)}"
        return rejection(one.candidate, sequences, RejectReason.LESS_ACCURATE, message)
    if replicas > 1:
        fewer = replace(choice, replicas=problem.limits.headroom.left_of(replicas - 1))
        seen = evaluator.evaluations.get((one.key, fewer))
        why = "; ".join(broken(seen, problem.budget)) if seen else ""
        load = f"the load is {evaluator.load(one, sequences, max(fewer.replicas, 1)):.1%} of what they carry at most"
        message += f". With {replicas - 1} {why or load}"
    return rejection(one.candidate, sequences, RejectReason.COSTLIER, message)


def beaten(problem: Problem, option: GenerationOption, best: GenerationOption) -> Rejected:
    choice = option.choice
    return lost_to(
        best.rank, option.rank, one=option.one, best=best.one, size=choice.sequences, replicas=choice.replicas,
        percentile=problem.budget.percentile,
    )  # fmt: skip


def of_plan(problem: Problem, plan: Plan, generated: Generated) -> list[str]:
    """Why this plan, and how sure."""
    predicted, budget = plan.predicted, problem.budget
    name = f"p{budget.percentile:g}"
    sentences = [
        f"{describe(plan)}, costs {plan.cost_per_hour:g} per hour; predicted {name} of the whole answer is "
        f"{predicted.latency_ms:.1f} ms ({predicted.low_ms:.1f} to {predicted.high_ms:.1f}) of the budget's "
        f"{budget.latency_milliseconds:g} ms, the compute thread busy {predicted.utilization:.0%} of the time.",
    ]
    highest = {Dimension.LATENCY: predicted.high_ms}
    caps = caps_of(budget)
    for dimension, time in (
        (Dimension.FIRST_TOKEN, generated.first_token),
        (Dimension.PER_TOKEN, generated.per_token),
    ):
        of = f", of its cap {caps[dimension]:g} ms" if dimension in caps else ""
        sentences.append(
            f"{name} of the {NAMES[dimension]} is {time.budgeted_ms:.1f} ms ({time.low_ms:.1f} to "
            f"{time.high_ms:.1f}){of}; half of them are {time.p50_ms:.1f} ms or less."
        )
        highest[dimension] = time.high_ms
    sentences.append(
        f"{predicted.mean_batch:.2f} sequences get a token in a step on average, {generated.tokens_per_second:.1f} "
        f"tokens per second together; {name} of the wait for a place is {_queue(plan):.1f} ms or less."
    )
    sentences += of_tight_load(problem, plan)
    sentences += of_classes(budget, predicted)
    sentences += of_headroom(problem.limits.headroom, plan)
    if plan.accuracy is not None and budget.accuracy is not None:
        sentences.append(f"{budget.accuracy.metric} measured on {plan.hardware} is {plan.accuracy:.4f}.")
    for dimension, cap in caps.items():
        if highest[dimension] > cap:
            sentences.append(
                f"The high end of the band of {NAMES[dimension]}, {highest[dimension]:.1f} ms, is above {cap:g} ms: "
                "this plan may break it."
            )
    if predicted.extrapolated_share > 0:
        sentences.append(
            f"{predicted.extrapolated_share:.2%} of the sequences are longer than any that was measured: their steps "
            "take what the longest measured one's do, and more by the law."
        )
    return sentences


def _queue(plan: Plan) -> float:
    return plan.predicted.queue.p99_ms
