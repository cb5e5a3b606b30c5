"""When nothing is feasible: for each dimension the smallest change that makes a plan possible, and its price.

Every answer is a plan that the same search found under the changed input, so it holds by the same simulation.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from cycleops.planner.choice import Choice, Prepared
from cycleops.planner.evaluate import Evaluator
from cycleops.planner.explain import describe, replicas_text
from cycleops.planner.mix import Mix, find
from cycleops.planner.model import AccuracyFloor
from cycleops.planner.option import Option
from cycleops.planner.prepare import Problem, batch_sizes, delays_seconds, prepare
from cycleops.planner.result import Dimension, NearestFeasible
from cycleops.planner.search import screen

Found = TypeVar("Found")

REPLICA_FACTOR = 4  # how far beyond the allowed replicas is looked
RATE_FACTOR = 64  # how far below the rate is looked
LATENCY_FACTOR = 64  # how far beyond the latency
PRECISION = 1.03
TRIES = 24  # fleets of several classes that are simulated per question


def nearest_feasible(problem: Problem, evaluator: Evaluator) -> tuple[NearestFeasible, ...]:
    """One entry per dimension in which a single change suffices."""
    found = (_latency(problem, evaluator), _accuracy(problem, evaluator), _replicas(problem, evaluator), _rate(problem))
    return tuple(item for item in found if item is not None)


def _entry(
    dimension: Dimension, value: float, option: Option | Mix, evaluator: Evaluator, change: str
) -> NearestFeasible:
    plan = option.plan(evaluator)
    message = f"{change} is feasible: {describe(plan)}, {plan.cost_per_hour:g} per hour."
    return NearestFeasible(
        dimension=dimension, value=value, cost_per_hour=plan.cost_per_hour, plan=plan, message=message
    )


def _latency(problem: Problem, evaluator: Evaluator) -> NearestFeasible | None:
    """The fastest that the allowed replicas of one class can be; then the cheapest plan at that latency.

    A mix may be faster: where mixes are allowed, the least latency that has a plan is found by bisection.
    """
    if problem.limits.mixes:
        return _mixed_latency(problem, evaluator)
    budget = problem.budget
    slow = replace(problem, budget=replace(budget, latency_milliseconds=10.0**9))
    prepared, _ = prepare(slow)
    runnable = [one for one in prepared if screen(slow, evaluator, one) is None]
    idle = {one.key: evaluator.idle_milliseconds(one) for one in runnable}
    best = math.inf
    for one in sorted(runnable, key=lambda one: idle[one.key]):
        if idle[one.key] < best:  # no replica is faster than an idle one
            best = min([best, *_fastest(problem, evaluator, one)])
    if math.isinf(best):
        return None
    value = math.ceil(best * 10) / 10
    option = find(replace(problem, budget=replace(budget, latency_milliseconds=value)), evaluator, tries=TRIES)
    if option is None:
        return None
    return _entry(Dimension.LATENCY, value, option, evaluator, f"A latency budget of {value:g} ms")


def _mixed_latency(problem: Problem, evaluator: Evaluator) -> NearestFeasible | None:
    """To PRECISION, up to LATENCY_FACTOR times the budget."""

    def at(milliseconds: float) -> Option | Mix | None:
        changed = replace(problem, budget=replace(problem.budget, latency_milliseconds=milliseconds))
        return find(changed, evaluator, tries=TRIES)

    low = problem.budget.latency_milliseconds
    high = LATENCY_FACTOR * low
    best = at(high)
    if best is None:
        return None
    while high / low > PRECISION:
        middle = math.sqrt(low * high)
        found = at(middle)
        low, high, best = (middle, high, best) if found is None else (low, middle, found)
    value = math.ceil(high * 10) / 10
    return _entry(Dimension.LATENCY, value, best, evaluator, f"A latency budget of {value:g} ms")


def _fastest(problem: Problem, evaluator: Evaluator, prepared: Prepared) -> Iterator[float]:
    most = problem.limits.headroom.left_of(problem.replica_bounds(prepared.candidate)[1])
    for size in batch_sizes(problem, prepared):
        if evaluator.stable_replicas(prepared, size) <= most:
            delay = delays_seconds(problem, evaluator, prepared, size, most)[0]
            choice = Choice(batch_size=size, delay_seconds=delay, replicas=most)
            yield evaluator.size(prepared, choice).sized_at_ms


def _accuracy(problem: Problem, evaluator: Evaluator) -> NearestFeasible | None:
    """The highest floor among the measured accuracies that something feasible reaches."""
    floor = problem.budget.accuracy
    if floor is None:
        return None
    values = {value for one in problem.candidates if (value := one.metric(floor.metric)) is not None}
    for value in sorted(values, reverse=True):
        lower = replace(problem.budget, accuracy=AccuracyFloor(metric=floor.metric, minimum=value))
        option = find(replace(problem, budget=lower), evaluator, tries=TRIES)
        if option is not None:
            return _entry(
                Dimension.ACCURACY, value, option, evaluator, f"An accuracy floor of {value:.4f} ({floor.metric})"
            )
    return None


def _replicas(problem: Problem, evaluator: Evaluator) -> NearestFeasible | None:
    """More replicas than the spec or the class allows."""
    bounds = [problem.replica_bounds(candidate)[1] for candidate in problem.candidates]
    if not bounds or problem.pinned.replicas is not None:
        return None
    most = REPLICA_FACTOR * max(*bounds, problem.limits.maximum_replicas)
    candidates = tuple(
        replace(one, hardware=replace(one.hardware, maximum_replicas=None)) for one in problem.candidates
    )
    limits = replace(problem.limits, maximum_replicas=most)
    option = find(replace(problem, candidates=candidates, limits=limits), evaluator, tries=TRIES)
    if option is None:
        return None
    count, names = option.replicas, option.hardware
    text = f"A maximum of {replicas_text(count)} of {names}"
    return _entry(Dimension.REPLICAS, float(count), option, evaluator, text)


def highest_rate(wanted: float, at_rate: Callable[[float], Found | None]) -> tuple[float, Found] | None:
    """The highest rate below ``wanted`` at which something is found, to PRECISION, and what; None when not even at
    wanted / RATE_FACTOR.
    """
    high, low = wanted, wanted / RATE_FACTOR
    best = at_rate(low)
    if best is None:
        return None
    while high / low > PRECISION:
        middle = math.sqrt(low * high)
        found = at_rate(middle)
        if found is None:
            high = middle
        else:
            low, best = middle, found
    return float(f"{low:.2g}") if float(f"{low:.2g}") <= low else float(f"{low:.3g}"), best


def _rate(problem: Problem) -> NearestFeasible | None:
    """The highest rate that the allowed replicas carry, to PRECISION, by bisection of the logarithm."""
    found = highest_rate(problem.workload.rate_per_second, lambda rate: _at_rate(problem, rate))
    if found is None:
        return None
    value, best = found
    return _entry(Dimension.RATE, value, *best, f"A rate of {value:g} requests/s")


def _at_rate(problem: Problem, rate: float) -> tuple[Option | Mix, Evaluator] | None:
    changed = replace(problem, workload=replace(problem.workload, rate_per_second=rate))
    evaluator = changed.evaluator()
    option = find(changed, evaluator, tries=TRIES)
    return None if option is None else (option, evaluator)
