"""The search: for each candidate the fewest replicas that hold the budget; the cheapest of those is the plan.

A bound starts the count of replicas, the simulation at the budget's percentile decides, ties in cost go to accuracy,
then latency. Nothing is ever sized by a mean. What the bound alone rules out is told with the bound's numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cycleops.planner import explain
from cycleops.planner.evaluate import Choice, Evaluator, Prepared
from cycleops.planner.option import Option, cost_of
from cycleops.planner.prepare import Problem, batch_sizes, delays_seconds, prepare, rejection
from cycleops.planner.result import Rejected, RejectReason

# A delay fills batches. Below this busy share there is little to gain by that, and each request would wait longer.
DELAY_PAYS_FROM = 0.5


@dataclass(frozen=True, kw_only=True)
class Solution:
    """``option``: the best, if any. ``prepared``: what could have been simulated."""

    option: Option | None
    rejected: tuple[Rejected, ...]
    prepared: tuple[Prepared, ...]


def solve(problem: Problem, evaluator: Evaluator) -> Solution:
    """``evaluator`` must be of the same workload, percentile, algorithm and seed; its answers are reused."""
    prepared, rejected = prepare(problem)
    runnable: list[Prepared] = []
    for one in prepared:
        lost = screen(problem, evaluator, one)
        if lost:
            rejected.append(lost)
        else:
            runnable.append(one)
    options, lost_sizes = _size_all(problem, evaluator, runnable)
    best = min(options, key=lambda option: option.rank, default=None)
    if best is not None:
        rejected += [explain.beaten(option, best) for option in options if option is not best]
    return Solution(option=best, rejected=tuple(rejected + lost_sizes), prepared=tuple(prepared))


def screen(problem: Problem, evaluator: Evaluator, prepared: Prepared) -> Rejected | None:
    """What no number of replicas can mend: caps by term, and T on an idle server."""
    budget, candidate = problem.budget, prepared.candidate
    total, pre, post = evaluator.idle_milliseconds(prepared, percentile=budget.percentile)
    for term, value, cap in (("pre", pre, budget.pre_milliseconds), ("post", post, budget.post_milliseconds)):
        if cap is not None and value > cap:
            message = (
                f"p{budget.percentile:g} of {term} is {value:.1f} ms on {candidate.label}, above the cap {cap:g} ms"
            )
            return rejection(candidate, None, RejectReason.STAGE_CAP, message)
    if total > budget.latency_milliseconds:
        message = (
            f"p{budget.percentile:g} of {candidate.label} is {total:.1f} ms even on an idle server, above the "
            f"budget of {budget.latency_milliseconds:g} ms: more replicas can't help"
        )
        return rejection(candidate, None, RejectReason.LATENCY_FLOOR, message)
    return None


def _size_all(
    problem: Problem, evaluator: Evaluator, runnable: Sequence[Prepared]
) -> tuple[list[Option], list[Rejected]]:
    """Cheapest lower bound first; what costs more by its bound than what is found already isn't simulated."""
    pairs = [(one, size) for one in runnable for size in batch_sizes(problem, one)]
    starts = {(one.key, size): first_replicas(problem, evaluator, one, size) for one, size in pairs}
    pairs.sort(key=lambda pair: (cost_of(pair[0], starts[pair[0].key, pair[1]]), pair[0].key, pair[1]))
    options: list[Option] = []
    rejected: list[Rejected] = []
    for one, size in pairs:
        limit = min((option.cost_per_hour for option in options), default=None)
        found = _size(problem, evaluator, one, size, starts[one.key, size], limit)
        if isinstance(found, Option):
            options.append(found)
        else:
            rejected.append(found)
    return options, rejected


def first_replicas(problem: Problem, evaluator: Evaluator, prepared: Prepared, batch_size: int) -> int:
    """Fewest replicas that the rate and the bound on the wait leave open; beyond the most allowed, the rate's own."""
    fewest, most = problem.replica_bounds(prepared.candidate)
    replicas = max(fewest, evaluator.stable_replicas(prepared, batch_size))
    while replicas <= most:
        wait = evaluator.wait_bound_milliseconds(prepared, batch_size=batch_size, replicas=replicas)
        if wait <= problem.budget.latency_milliseconds:
            break
        replicas += 1
    return replicas


def _size(
    problem: Problem, evaluator: Evaluator, prepared: Prepared, batch_size: int, start: int, limit: float | None
) -> Option | Rejected:
    """``limit``: the cost above which it can't win any more.

    More replicas never make T longer, so when the most fail, all do; else the fewest are found by steps that double,
    then halve.
    """
    most = problem.replica_bounds(prepared.candidate)[1]
    if start > most:
        return explain.above_capacity(problem, evaluator, prepared, batch_size, most)
    top = min(most, _affordable(prepared, limit, most))
    if start > top:
        return explain.too_dear(evaluator, prepared, batch_size, start, limit or 0.0)
    best = _hold(problem, evaluator, prepared, batch_size, start)
    if best is not None or start == top:
        failed = start
    else:
        failed, best = start, _hold(problem, evaluator, prepared, batch_size, top)
    if best is None:
        if top < most:
            return explain.too_dear(evaluator, prepared, batch_size, top + 1, limit or 0.0)
        return explain.out_of_replicas(problem, evaluator, prepared, batch_size, most)
    step = 1
    while best.choice.replicas - failed > 1:
        replicas = min(failed + step, (failed + best.choice.replicas) // 2)
        found = _hold(problem, evaluator, prepared, batch_size, replicas)
        best, failed, step = (best, replicas, 2 * step) if found is None else (found, failed, step)
    return best


def _affordable(prepared: Prepared, limit: float | None, most: int) -> int:
    """Replicas that cost no more than the limit."""
    cost = prepared.candidate.hardware.cost_per_hour
    return most if limit is None or cost == 0 else min(most, int(limit / cost + 1e-6))


def _hold(problem: Problem, evaluator: Evaluator, prepared: Prepared, batch_size: int, replicas: int) -> Option | None:
    """The option with the first delay that holds the budget at this number of replicas."""
    for delay in delays_seconds(problem, evaluator, prepared, batch_size):
        choice = Choice(batch_size=batch_size, delay_seconds=delay, replicas=replicas)
        prediction = evaluator.predict(prepared, choice)
        if prediction.sized_at_ms <= problem.budget.latency_milliseconds:
            return Option(prepared=prepared, choice=choice, prediction=prediction)
        if prediction.utilization < DELAY_PAYS_FROM:
            break
    return None
