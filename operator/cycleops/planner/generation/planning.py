"""A plan for a model that generates; ``planner.planning`` is the door."""

from collections.abc import Sequence

from cycleops.planner import frontier
from cycleops.planner.explain import of_evidence, of_obstacle
from cycleops.planner.generation import explain
from cycleops.planner.generation.evaluate import GenerationChoice, GenerationEvaluator, Generator
from cycleops.planner.generation.nearest import evaluator_of, nearest_feasible
from cycleops.planner.generation.outcomes import broken
from cycleops.planner.generation.search import GenerationSolution, make_plan, solve
from cycleops.planner.obstacles import obstacle_of
from cycleops.planner.prepare import Problem, rejection
from cycleops.planner.replicas import cost_of
from cycleops.planner.result import FrontierPoint, Obstacle, Plan, PlanResult, RejectReason


def plan_generation(problem: Problem) -> PlanResult:
    """Raises ValueError when the workload does not say how long answers are."""
    if lost := _mixed(problem):
        return lost
    evaluator = evaluator_of(problem)
    solution = solve(problem, evaluator)
    chosen = solution.option.plan(evaluator) if solution.option is not None else None
    points = _points(problem, evaluator, solution.prepared)  # before the nearest adds what was not asked for
    if chosen is not None:
        assert chosen.predicted.generation is not None
        sentences = explain.of_plan(problem, chosen, chosen.predicted.generation)
        return PlanResult(
            feasible=True,
            plan=chosen,
            rejected=solution.rejected,
            frontier=frontier.pareto(points),
            nearest=(),
            obstacle=None,
            baseline_accuracy=problem.baseline_accuracy,
            sentences=(*sentences, *of_evidence(problem.candidates)),
        )
    judged = _judged(problem, evaluator, solution)
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
            *of_obstacle(obstacle, nearest, budget=problem.budget),
            *of_evidence(problem.candidates),
        ),
    )


def _mixed(problem: Problem) -> PlanResult | None:
    """One service has one task: where profiles of both kinds come together, somebody mixed them up."""
    others = [one for one in problem.candidates if not one.profile.generation]
    if not others:
        return None
    message = (
        f"{others[0].label} was measured without generating, {len(problem.candidates) - len(others)} other "
        "candidate(s) with: give the profiles of one model"
    )
    rejected = tuple(rejection(one, None, RejectReason.MIXED_TASKS, message) for one in problem.candidates)
    return PlanResult(
        feasible=False,
        plan=None,
        rejected=rejected,
        frontier=(),
        nearest=(),
        obstacle=Obstacle.NO_PROFILES,
        baseline_accuracy=None,
        sentences=(f"The profiles are of models with different tasks: {message}.",),
    )


def _points(problem: Problem, evaluator: GenerationEvaluator, prepared: Sequence[Generator]) -> list[FrontierPoint]:
    known = {one.key: one for one in prepared}
    return [
        FrontierPoint(
            variant=key[0],
            hardware=key[1],
            batch_size=choice.sequences,
            replicas=choice.replicas,
            cost_per_hour=cost_of(known[key], choice.replicas),
            p99_ms=sizing.p99_ms,
            accuracy=known[key].accuracy,
            meets_budget=not broken(sizing, problem.budget),
        )
        for (key, choice), sizing in evaluator.evaluations.items()
        if key in known
    ]


def _judged(problem: Problem, evaluator: GenerationEvaluator, solution: GenerationSolution) -> Plan | None:
    """A plan that is pinned in full serves all the same: say what to expect of it, if its load leaves that open."""
    pinned = problem.pinned
    if len(solution.prepared) != 1 or pinned.variant is None or pinned.hardware is None:
        return None
    if pinned.batch_size is None or pinned.replicas is None:
        return None
    one = solution.prepared[0]
    if evaluator.stable_replicas(one, pinned.batch_size) > pinned.replicas:
        return None
    return make_plan(one, GenerationChoice(sequences=pinned.batch_size, replicas=pinned.replicas), evaluator)
