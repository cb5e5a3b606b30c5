"""When nothing holds every cap: for each dimension the smallest change that makes a plan possible, and its price.

Every answer is a plan that the same search found under the changed input, so it holds by the same simulation.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from cycleops.planner.explain import replicas_text
from cycleops.planner.generation.evaluate import GenerationChoice, GenerationEvaluator
from cycleops.planner.generation.explain import describe
from cycleops.planner.generation.outcomes import NAMES, caps_of
from cycleops.planner.generation.search import GenerationOption, limits, prepare, screen, solve
from cycleops.planner.model import AccuracyFloor, Budget
from cycleops.planner.nearest import REPLICA_FACTOR, highest_rate
from cycleops.planner.prepare import Problem
from cycleops.planner.result import Dimension, NearestFeasible

_UNBOUNDED = 1e9


def nearest_feasible(problem: Problem, evaluator: GenerationEvaluator) -> tuple[NearestFeasible, ...]:
    """One entry per dimension in which a single change suffices."""
    found = [_cap(problem, evaluator, dimension) for dimension in caps_of(problem.budget)]
    found += [_accuracy(problem, evaluator), _replicas(problem, evaluator), _rate(problem)]
    return tuple(item for item in found if item is not None)


def _entry(
    dimension: Dimension, value: float, option: GenerationOption, evaluator: GenerationEvaluator, change: str
) -> NearestFeasible:
    plan = option.plan(evaluator)
    message = f"{change} is feasible: {describe(plan)}, {plan.cost_per_hour:g} per hour."
    return NearestFeasible(
        dimension=dimension, value=value, cost_per_hour=plan.cost_per_hour, plan=plan, message=message
    )


def _with(budget: Budget, dimension: Dimension, value: float) -> Budget:
    if dimension is Dimension.LATENCY:
        return replace(budget, latency_milliseconds=value)
    if dimension is Dimension.FIRST_TOKEN:
        return replace(budget, first_token_milliseconds=value)
    return replace(budget, per_token_milliseconds=value)


def _cap(problem: Problem, evaluator: GenerationEvaluator, dimension: Dimension) -> NearestFeasible | None:
    """The least that the allowed replicas can do while the other caps hold; then the cheapest plan at that."""
    best = min(_reached(problem, evaluator, dimension), default=math.inf)
    if math.isinf(best):
        return None
    value = math.ceil(best * 10) / 10
    option = solve(replace(problem, budget=_with(problem.budget, dimension, value)), evaluator).option
    if option is None:
        return None
    return _entry(dimension, value, option, evaluator, f"A budget of {value:g} ms for the {NAMES[dimension]}")


def _reached(problem: Problem, evaluator: GenerationEvaluator, dimension: Dimension) -> Iterator[float]:
    """Of every candidate and limit, with the most replicas."""
    free = replace(problem, budget=_with(problem.budget, dimension, _UNBOUNDED))
    others = {other: cap for other, cap in caps_of(problem.budget).items() if other is not dimension}
    for one in prepare(free)[0]:
        if screen(free, evaluator, one) is not None:
            continue
        most = problem.limits.headroom.left_of(problem.replica_bounds(one.candidate)[1])
        for limit in limits(problem, one):
            if most == 0 or evaluator.stable_replicas(one, limit) > most:
                continue
            sizing = evaluator.size(one, GenerationChoice(sequences=limit, replicas=most))
            if all(sizing.of(other) <= cap for other, cap in others.items()):
                yield sizing.of(dimension)


def _accuracy(problem: Problem, evaluator: GenerationEvaluator) -> NearestFeasible | None:
    """The highest floor among the measured accuracies that something feasible reaches."""
    floor = problem.budget.accuracy
    if floor is None:
        return None
    values = {value for one in problem.candidates if (value := one.metric(floor.metric)) is not None}
    for value in sorted(values, reverse=True):
        lower = replace(problem.budget, accuracy=AccuracyFloor(metric=floor.metric, minimum=value))
        option = solve(replace(problem, budget=lower), evaluator).option
        if option is not None:
            text = f"An accuracy floor of {value:.4f} ({floor.metric})"
            return _entry(Dimension.ACCURACY, value, option, evaluator, text)
    return None


def _replicas(problem: Problem, evaluator: GenerationEvaluator) -> NearestFeasible | None:
    """More replicas than the spec or the class allows."""
    bounds = [problem.replica_bounds(candidate)[1] for candidate in problem.candidates]
    if not bounds or problem.pinned.replicas is not None:
        return None
    most = REPLICA_FACTOR * max(*bounds, problem.limits.maximum_replicas)
    candidates = tuple(
        replace(one, hardware=replace(one.hardware, maximum_replicas=None)) for one in problem.candidates
    )
    more = replace(problem.limits, maximum_replicas=most)
    option = solve(replace(problem, candidates=candidates, limits=more), evaluator).option
    if option is None:
        return None
    count = option.choice.replicas
    text = f"A maximum of {replicas_text(count)} of {option.one.candidate.hardware.name}"
    return _entry(Dimension.REPLICAS, float(count), option, evaluator, text)


def _rate(problem: Problem) -> NearestFeasible | None:
    """The highest rate that the allowed replicas carry, to PRECISION, by bisection of the logarithm."""
    found = highest_rate(problem.workload.rate_per_second, lambda rate: _at_rate(problem, rate))
    if found is None:
        return None
    value, best = found
    return _entry(Dimension.RATE, value, *best, f"A rate of {value:g} requests/s")


def _at_rate(problem: Problem, rate: float) -> tuple[GenerationOption, GenerationEvaluator] | None:
    changed = replace(problem, workload=replace(problem.workload, rate_per_second=rate))
    evaluator = evaluator_of(changed)
    option = solve(changed, evaluator).option
    return None if option is None else (option, evaluator)


def evaluator_of(problem: Problem) -> GenerationEvaluator:
    return GenerationEvaluator(
        workload=problem.workload,
        percentile=problem.budget.percentile,
        algorithm=problem.algorithm,
        settings=problem.settings,
        seed=problem.seed,
    )
