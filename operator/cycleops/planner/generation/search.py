"""The search for a model that generates: for each candidate and limit of sequences the fewest replicas that hold every
cap, by simulation; the cheapest of those is the plan. Ties go to accuracy, then T.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cycleops.planner.generation import explain
from cycleops.planner.generation.evaluate import GenerationChoice, GenerationEvaluator, Generator
from cycleops.planner.generation.outcomes import GenerationSizing, broken
from cycleops.planner.generation.simulate import output_quantile
from cycleops.planner.generation.times import GenerationTimes, remembered_generation_times
from cycleops.planner.model import Candidate
from cycleops.planner.option import plan_of_groups
from cycleops.planner.prepare import Problem, able, stage_cap
from cycleops.planner.replicas import Rank, affordable, cost_of, fewest
from cycleops.planner.result import Plan, PlanGroup, Rejected
from cycleops.planner.traffic import length_quantile


@dataclass(frozen=True, kw_only=True)
class GenerationOption:
    """A candidate at its fewest replicas that hold the budget."""

    one: Generator
    choice: GenerationChoice
    sizing: GenerationSizing

    @property
    def cost_per_hour(self) -> float:
        return cost_of(self.one, self.choice.replicas)

    @property
    def rank(self) -> Rank:
        """Lower is better. The last parts only make the order total."""
        one = self.one
        return self.cost_per_hour, one.lack_of_accuracy, self.sizing.latency_ms, self.choice.sequences, one.key

    def plan(self, evaluator: GenerationEvaluator) -> Plan:
        return make_plan(self.one, self.choice, evaluator)


@dataclass(frozen=True, kw_only=True)
class GenerationSolution:
    """``option``: the best, if any. ``prepared``: what could have been simulated."""

    option: GenerationOption | None
    rejected: tuple[Rejected, ...]
    prepared: tuple[Generator, ...]


def make_plan(one: Generator, choice: GenerationChoice, evaluator: GenerationEvaluator) -> Plan:
    variant, hardware = one.key
    group = PlanGroup(
        hardware=hardware,
        batch_size=choice.sequences,
        delay_milliseconds=0.0,
        replicas=choice.replicas,
        cost_per_hour=cost_of(one, choice.replicas),
    )
    return plan_of_groups([one], (group,), evaluator.predict(one, choice))


def solve(problem: Problem, evaluator: GenerationEvaluator) -> GenerationSolution:
    """``evaluator`` must be of the same workload, percentile, algorithm and seed; its answers are reused."""
    prepared, rejected = prepare(problem)
    runnable: list[Generator] = []
    for one in prepared:
        lost = screen(problem, evaluator, one)
        if lost is None:
            runnable.append(one)
        else:
            rejected.append(lost)
    pairs = [(one, limit) for one in runnable for limit in limits(problem, one)]
    pairs.sort(key=lambda pair: _hope(problem, evaluator, *pair))
    options: list[GenerationOption] = []
    for one, limit in pairs:
        best = min(options, key=lambda option: option.rank, default=None)
        found = _size(problem, evaluator, one, limit, best)
        if isinstance(found, GenerationOption):
            options.append(found)
        else:
            rejected.append(found)
    best = min(options, key=lambda option: option.rank, default=None)
    if best is not None:
        rejected += [explain.beaten(problem, option, best) for option in options if option is not best]
    return GenerationSolution(option=best, rejected=tuple(rejected), prepared=tuple(prepared))


def prepare(problem: Problem) -> tuple[list[Generator], list[Rejected]]:
    """What may be simulated, and what may not with the first reason that stands against it."""
    passed, rejected = able(problem, times_of=remembered_generation_times, outside=_outside)
    return [Generator(candidate=one, times=times, accuracy=accuracy) for one, times, accuracy in passed], rejected


def _outside(problem: Problem, candidate: Candidate, times: GenerationTimes) -> str | None:
    """Prompts up to the 99th percentile (or the budget's) must have been measured, and sequences as long as the
    medians of both together; a long answer is more of the same steps.
    """
    percentile = max(99.0, problem.budget.percentile)
    prompt = length_quantile(problem.workload, percentile)
    if prompt > times.longest_prompt + 0.5:
        return (
            f"{100 - percentile:g} % of the prompts are longer than {prompt:.0f} tokens, and {candidate.label} was "
            f"measured up to {times.longest_prompt} only: profile longer prompts"
        )
    answer = output_quantile(problem.workload, percentile)
    if answer > times.longest_context:
        return (
            f"{100 - percentile:g} % of the answers are longer than {answer:.0f} tokens, and {candidate.label} was "
            f"measured with sequences of up to {times.longest_context} only: profile longer answers"
        )
    sequences = problem.pinned.batch_size
    if sequences is not None and sequences > times.concurrencies[-1]:
        return f"the pinned {sequences} sequences at once are above the most measured, {times.concurrencies[-1]}"
    return None


def screen(problem: Problem, evaluator: GenerationEvaluator, one: Generator) -> Rejected | None:
    """What no number of replicas can mend: caps by term, and any cap that even an idle server breaks."""
    lost = stage_cap(problem, one.candidate, lambda: evaluator.stage_milliseconds(one))
    return lost or explain.idle_breaks(problem, evaluator, one)


def limits(problem: Problem, one: Generator) -> Sequence[int]:
    """Of sequences that run at once: those that were measured."""
    pinned = problem.pinned.batch_size
    return one.times.concurrencies if pinned is None else (pinned,)


def first_replicas(problem: Problem, evaluator: GenerationEvaluator, one: Generator, limit: int) -> int:
    """That carry the rate, also with what the headroom asks for lost."""
    needed = evaluator.stable_replicas(one, limit)
    return problem.limits.headroom.replicas_for(needed, fewest=problem.replica_bounds(one.candidate)[0])


def _hope(problem: Problem, evaluator: GenerationEvaluator, one: Generator, limit: int) -> tuple[float, ...]:
    """The best rank that it may reach; of equals, what needs the fewest replicas with the most room first."""
    cost = cost_of(one, first_replicas(problem, evaluator, one, limit))
    return cost, one.lack_of_accuracy, evaluator.load(one, limit, 1)


def _size(
    problem: Problem, evaluator: GenerationEvaluator, one: Generator, limit: int, rival: GenerationOption | None
) -> GenerationOption | Rejected:
    """The fewest replicas that hold, by steps that double, then halve; more replicas never make a request slower."""
    most, start = problem.replica_bounds(one.candidate)[1], first_replicas(problem, evaluator, one, limit)
    if start > most:
        return explain.above_capacity(problem, evaluator, one, limit, most)
    top = affordable(one, rival, most)
    if rival is not None and start > top:
        return explain.too_dear(problem, evaluator, one, GenerationChoice(sequences=limit, replicas=start), rival)
    held = _hold(problem, evaluator, one, limit, start)
    if held is not None:
        return held
    failed, best = start, _hold(problem, evaluator, one, limit, top) if top > start else None
    if best is None:
        if rival is not None and top < most:
            needed = GenerationChoice(sequences=limit, replicas=top + 1)
            return explain.too_dear(problem, evaluator, one, needed, rival)
        left = problem.limits.headroom.left_of(most)
        sizing = evaluator.size(one, GenerationChoice(sequences=limit, replicas=left))
        return explain.out_of_replicas(one, limit, left, broken(sizing, problem.budget))

    def hold(replicas: int) -> GenerationOption | None:
        return _hold(problem, evaluator, one, limit, replicas)

    return fewest(hold, failed=failed, holds=best.choice.replicas, found=best)


def _hold(
    problem: Problem, evaluator: GenerationEvaluator, one: Generator, limit: int, replicas: int
) -> GenerationOption | None:
    """With what may be lost lost, the budget must hold: more replicas never make a request slower."""
    left = GenerationChoice(sequences=limit, replicas=problem.limits.headroom.left_of(replicas))
    if broken(evaluator.size(one, left), problem.budget):
        return None
    choice = replace(left, replicas=replicas)
    return GenerationOption(one=one, choice=choice, sizing=evaluator.size(one, choice))
