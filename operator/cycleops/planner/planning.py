"""The door of the planner: one call, one result."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cycleops.planner import explain, frontier
from cycleops.planner.choice import Choice, Prepared
from cycleops.planner.evaluate import Evaluator
from cycleops.planner.generation.planning import plan_generation
from cycleops.planner.memory import Memory
from cycleops.planner.mix import look, of_mix
from cycleops.planner.model import Algorithm, Budget, Candidate, Limits, Pinned, Settings, Workload
from cycleops.planner.nearest import nearest_feasible
from cycleops.planner.obstacles import obstacle_of
from cycleops.planner.option import make_plan
from cycleops.planner.prepare import Problem
from cycleops.planner.result import Obstacle, Plan, PlanResult
from cycleops.planner.search import Solution, solve


class Planner:
    """Plans, and remembers of one question what the next one can use: planning again for another rate is quick.

    The answers are those of :func:`plan`. Not for several threads at once.
    """

    def __init__(self) -> None:
        self._memory = Memory()

    def plan(
        self,
        *,
        workload: Workload,
        budget: Budget,
        candidates: Iterable[Candidate],
        limits: Limits,
        algorithm: Algorithm = Algorithm.LEAST_CONNECTIONS,
        seed: int = 0,
        pinned: Pinned | None = None,
        settings: Settings | None = None,
    ) -> PlanResult:
        """As :func:`plan`."""
        return _answer(
            Problem(
                workload=workload,
                budget=budget,
                candidates=tuple(candidates),
                limits=limits,
                algorithm=algorithm,
                seed=seed,
                pinned=pinned or Pinned(),
                settings=settings or Settings(),
                memory=self._memory,
            )
        )


def plan(
    *,
    workload: Workload,
    budget: Budget,
    candidates: Iterable[Candidate],
    limits: Limits,
    algorithm: Algorithm = Algorithm.LEAST_CONNECTIONS,
    seed: int = 0,
    pinned: Pinned | None = None,
    settings: Settings | None = None,
) -> PlanResult:
    """The cheapest plan that holds the budget, or why there is none and what would be the nearest.

    Takes time in proportion to what must be simulated (some milliseconds per simulation, and in a new process the
    import of numba): call it in a thread from an event loop. The simulation lets other threads run. Raises ValueError
    when two candidates have the same variant and hardware.
    """
    return Planner().plan(
        workload=workload,
        budget=budget,
        candidates=candidates,
        limits=limits,
        algorithm=algorithm,
        seed=seed,
        pinned=pinned,
        settings=settings,
    )


def _answer(problem: Problem) -> PlanResult:
    if any(candidate.profile.generation for candidate in problem.candidates):
        return plan_generation(problem)
    evaluator = problem.evaluator()
    solution = solve(problem, evaluator)
    looked = look(problem, evaluator, solution)
    best = looked.mix or solution.option
    if best is not None:
        chosen = best.plan(evaluator)
        sentences = [
            *explain.of_plan(problem, chosen),
            *of_mix(looked, solution.option),
            *explain.of_range(problem, best.longest_measured),
            *explain.of_evidence(problem.candidates),
        ]
        if looked.mix is not None and solution.option is not None:
            lost = explain.beaten_by_mix(solution.option, looked.mix.cost_per_hour)
            solution = replace(solution, rejected=(*solution.rejected, lost))
        return _result(problem, evaluator, solution, chosen, None, sentences)
    return _infeasible(problem, evaluator, solution)


def _infeasible(problem: Problem, evaluator: Evaluator, solution: Solution) -> PlanResult:
    judged = _judged(problem, evaluator, solution.prepared)
    points = frontier.points(
        evaluator, solution.prepared, latency_milliseconds=problem.budget.latency_milliseconds
    )  # before the search for the nearest adds what was not asked for
    obstacle = Obstacle.PINNED if judged else obstacle_of(solution.rejected)
    nearest = nearest_feasible(problem, evaluator)
    return PlanResult(
        feasible=False,
        plan=judged,
        rejected=solution.rejected,
        frontier=frontier.pareto(points),
        nearest=nearest,
        obstacle=obstacle,
        baseline_accuracy=problem.baseline_accuracy,
        sentences=(
            *explain.of_obstacle(obstacle, nearest, budget=problem.budget),
            *explain.of_evidence(problem.candidates),
        ),
    )


def _result(
    problem: Problem,
    evaluator: Evaluator,
    solution: Solution,
    chosen: Plan,
    obstacle: Obstacle | None,
    sentences: Sequence[str],
) -> PlanResult:
    points = frontier.points(evaluator, solution.prepared, latency_milliseconds=problem.budget.latency_milliseconds)
    return PlanResult(
        feasible=True,
        plan=chosen,
        rejected=solution.rejected,
        frontier=frontier.pareto(points),
        nearest=(),
        obstacle=obstacle,
        baseline_accuracy=problem.baseline_accuracy,
        sentences=tuple(sentences),
    )


def _judged(problem: Problem, evaluator: Evaluator, prepared: Sequence[Prepared]) -> Plan | None:
    """A plan that is pinned in full serves all the same: say what to expect of it, if its load leaves that open."""
    pinned = problem.pinned
    if len(prepared) != 1 or pinned.variant is None or pinned.hardware is None:
        return None
    if pinned.batch_size is None or pinned.replicas is None:
        return None
    one = prepared[0]
    if evaluator.stable_replicas(one, pinned.batch_size) > pinned.replicas:
        return None
    delay = (pinned.delay_milliseconds or 0.0) / 1000
    choice = Choice(batch_size=pinned.batch_size, delay_seconds=delay, replicas=pinned.replicas)
    return make_plan(one, choice, evaluator.predict(one, choice))
