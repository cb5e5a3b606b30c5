"""The Pareto frontier of what was simulated: cost, p99, accuracy."""

from collections.abc import Iterable

from cycleops.planner.choice import Prepared
from cycleops.planner.evaluate import Evaluator
from cycleops.planner.replicas import cost_of
from cycleops.planner.result import FrontierPoint

MAXIMUM_POINTS = 64


def points(evaluator: Evaluator, prepared: Iterable[Prepared], *, latency_milliseconds: float) -> list[FrontierPoint]:
    """Every simulated choice of these candidates."""
    known = {one.key: one for one in prepared}
    return [
        FrontierPoint(
            variant=key[0],
            hardware=key[1],
            batch_size=choice.batch_size,
            replicas=choice.replicas,
            cost_per_hour=cost_of(known[key], choice.replicas),
            p99_ms=sizing.p99_ms,
            accuracy=known[key].accuracy,
            meets_budget=sizing.sized_at_ms <= latency_milliseconds,
        )
        for (key, choice), sizing in evaluator.evaluations.items()
        if key in known
    ]


def pareto(candidates: Iterable[FrontierPoint]) -> tuple[FrontierPoint, ...]:
    """Those that no other beats in all three; by cost, then p99. At most MAXIMUM_POINTS."""
    kept: list[FrontierPoint] = []
    for point in sorted(candidates, key=_values):  # what beats a point comes before it
        if not any(_beats(other, point) for other in kept):
            kept.append(point)
    return tuple(kept[:MAXIMUM_POINTS])


def _values(point: FrontierPoint) -> tuple[float, float, float]:
    return point.cost_per_hour, point.p99_ms, -(-1.0 if point.accuracy is None else point.accuracy)


def _beats(other: FrontierPoint, point: FrontierPoint) -> bool:
    return all(a <= b for a, b in zip(_values(other), _values(point), strict=True))
