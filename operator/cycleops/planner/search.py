"""The search: for each candidate the fewest replicas that hold the budget; the cheapest of those is the plan.

A bound starts the count of replicas, the simulation at the budget's percentile decides, ties in cost go to accuracy,
then latency. Nothing is ever sized by a mean. What the bound alone rules out is told with the bound's numbers.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cycleops.planner import explain
from cycleops.planner.choice import Choice, Prepared
from cycleops.planner.evaluate import Evaluator
from cycleops.planner.option import Option
from cycleops.planner.prepare import Problem, batch_sizes, delays_seconds, prepare, rejection, stage_cap
from cycleops.planner.replicas import affordable, cost_of, fewest
from cycleops.planner.result import Rejected, RejectReason

# Candidates on the frontier that are simulated for it alone, those that the search looked at included.
SHOWN_VARIANTS = 12

Place = tuple[tuple[str, str], int]  # of a candidate, and a batch size


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
    if lost := stage_cap(problem, candidate, lambda: evaluator.stage_milliseconds(prepared)):
        return lost
    total = evaluator.idle_milliseconds(prepared, within=budget.latency_milliseconds)
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
    """Cheapest lower bound first; what by its bound can't be better than what is found already isn't simulated."""
    pairs = [(one, size) for one in runnable for size in batch_sizes(problem, one)]
    starts = {(one.key, size): first_replicas(problem, evaluator, one, size) for one, size in pairs}
    pairs.sort(key=lambda pair: _hope(pair[0], pair[1], starts[pair[0].key, pair[1]]))
    best, failed = _first_that_holds(problem, evaluator, pairs, starts)
    options, rejected = [] if best is None else [best], []
    for one, size in pairs:
        if best is not None and best.prepared is one and best.choice.batch_size == size:
            continue
        failed_at = failed.get((one.key, size), starts[one.key, size] - 1)
        found = _size(problem, evaluator, one, size, starts[one.key, size], failed_at, best)
        if isinstance(found, Option):
            options.append(found)
            best = min(best or found, found, key=lambda option: option.rank)
        else:
            rejected.append(found)
    options.sort(key=lambda option: option.rank)
    if best is not None:
        _show_faster(problem, evaluator, pairs, starts, best)
    return options, rejected


def _first_that_holds(
    problem: Problem, evaluator: Evaluator, pairs: Sequence[tuple[Prepared, int]], starts: Mapping[Place, int]
) -> tuple[Option | None, dict[Place, int]]:
    """Always the cheapest that is left, with more replicas each time that it fails, in steps that double.

    Nothing dear is simulated before a cheap plan is known. Also the most replicas at which each was seen to fail.
    """
    failed: dict[Place, int] = {}
    queue = [(*_hope(one, size, starts[one.key, size]), starts[one.key, size], 1, one) for one, size in pairs]
    queue = [item for item in queue if item[4] <= problem.replica_bounds(item[6].candidate)[1]]
    heapq.heapify(queue)
    while queue:
        _, _, key, size, replicas, step, one = heapq.heappop(queue)
        option = _hold(problem, evaluator, one, size, replicas)
        before = failed.get((key, size), starts[key, size] - 1)
        if option is not None:
            return _fewest(problem, evaluator, option, before), failed
        failed[key, size] = replicas
        most = problem.replica_bounds(one.candidate)[1]
        if replicas < most:
            more = min(replicas + step, most)
            heapq.heappush(queue, (*_hope(one, size, more), more, 2 * step, one))
    return None, failed


def _show_faster(
    problem: Problem,
    evaluator: Evaluator,
    pairs: Sequence[tuple[Prepared, int]],
    starts: Mapping[Place, int],
    best: Option,
) -> None:
    """For the frontier: what costs as much as the plan and is less accurate was passed over, but may be faster."""
    seen = {key for key, _ in evaluator.evaluations}
    for one, size in pairs:
        replicas = starts[one.key, size]
        if len(seen) < SHOWN_VARIANTS and one.key not in seen and cost_of(one, replicas) == best.cost_per_hour:
            choice = Choice(batch_size=size, delay_seconds=0.0, replicas=replicas)
            if evaluator.within(one, choice, latency_milliseconds=problem.budget.latency_milliseconds) is not None:
                seen.add(one.key)


def _hope(prepared: Prepared, batch_size: int, replicas: int) -> tuple[float, float, tuple[str, str], int]:
    """The best rank that it may reach."""
    return cost_of(prepared, replicas), prepared.lack_of_accuracy, prepared.key, batch_size


def first_replicas(problem: Problem, evaluator: Evaluator, prepared: Prepared, batch_size: int) -> int:
    """Fewest replicas that the rate and the bound on the wait leave open; beyond the most allowed, the rate's own."""
    least, most = problem.replica_bounds(prepared.candidate)
    needed = evaluator.stable_replicas(prepared, batch_size)
    while needed <= most:
        wait = evaluator.wait_bound_milliseconds(prepared, batch_size=batch_size, replicas=needed)
        if wait <= problem.budget.latency_milliseconds:
            break
        needed += 1
    return problem.limits.headroom.replicas_for(needed, fewest=least)


def _size(
    problem: Problem,
    evaluator: Evaluator,
    prepared: Prepared,
    batch_size: int,
    start: int,
    failed: int,
    rival: Option | None,
) -> Option | Rejected:
    """``start``: the bound's fewest. ``failed``: with so many it does not hold. ``rival``: what it must be better than.

    More replicas never make T longer, so when the most that it may have fail, all do.
    """
    most = problem.replica_bounds(prepared.candidate)[1]
    if start > most:
        return explain.above_capacity(problem, evaluator, prepared, batch_size, most)
    if failed == most:
        return explain.out_of_replicas(problem, evaluator, prepared, batch_size, most)
    top = affordable(prepared, rival, most)
    if rival is not None and failed >= top:
        return explain.too_dear(problem, evaluator, prepared, batch_size, failed + 1, rival)
    best = _hold(problem, evaluator, prepared, batch_size, top)
    if best is not None:
        return _fewest(problem, evaluator, best, failed)
    if rival is not None and top < most:
        return explain.too_dear(problem, evaluator, prepared, batch_size, top + 1, rival)
    return explain.out_of_replicas(problem, evaluator, prepared, batch_size, most)


def _fewest(problem: Problem, evaluator: Evaluator, best: Option, failed: int) -> Option:
    def hold(replicas: int) -> Option | None:
        return _hold(problem, evaluator, best.prepared, best.choice.batch_size, replicas)

    return fewest(hold, failed=failed, holds=best.choice.replicas, found=best)


def _hold(problem: Problem, evaluator: Evaluator, prepared: Prepared, batch_size: int, replicas: int) -> Option | None:
    """The option with the first delay that holds the budget at this number of replicas, and with what a loss leaves."""
    left, latency = problem.limits.headroom.left_of(replicas), problem.budget.latency_milliseconds
    for delay in delays_seconds(problem, evaluator, prepared, batch_size, left) if left else ():
        choices = [
            Choice(batch_size=batch_size, delay_seconds=delay, replicas=count)
            for count in dict.fromkeys((left, replicas))
        ]
        found = [evaluator.within(prepared, choices[0], latency_milliseconds=latency)]
        if found[0] is not None:
            found += [evaluator.within(prepared, choice, latency_milliseconds=latency) for choice in choices[1:]]
        if found[-1] is not None:
            return Option(prepared=prepared, choice=choices[-1], sizing=found[-1])
    return None
