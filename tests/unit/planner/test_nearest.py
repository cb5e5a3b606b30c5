"""Infeasible budgets: each dimension's nearest feasible value is real, nearest, and has its price."""

from dataclasses import replace

import pytest

from cycleops.planner import AccuracyFloor, Dimension, Limits, NearestFeasible, Obstacle, PlanResult
from tests.unit.planner.profiles import candidate, four_variants
from tests.unit.planner.test_plan import BUDGET, ask, latency, rate


def by_dimension(result: PlanResult) -> dict[Dimension, NearestFeasible]:
    assert not result.feasible
    assert result.plan is None
    return {item.dimension: item for item in result.nearest}


def test_too_fast_a_budget() -> None:
    result = ask(budget=latency(8.5))
    assert result.obstacle is Obstacle.LATENCY
    nearest = by_dimension(result)
    assert Dimension.RATE not in nearest  # an idle server is too slow already
    found = nearest[Dimension.LATENCY]
    again = ask(budget=latency(found.value))
    assert again.plan == found.plan
    assert again.plan is not None
    assert again.plan.cost_per_hour == found.cost_per_hour
    assert not ask(budget=latency(found.value * 0.97)).feasible
    # Below the floor there is a variant that is fast enough; with its price.
    assert nearest[Dimension.ACCURACY].value == pytest.approx(0.72)
    assert nearest[Dimension.ACCURACY].plan.variant == "pruned30-int8"
    assert "0.7200" in nearest[Dimension.ACCURACY].message
    assert f"{found.value:g} ms" in " ".join(result.sentences)


def test_too_much_traffic_for_the_replicas_allowed() -> None:
    only, limits = [candidate("fp32", maximum_replicas=3)], Limits(maximum_replicas=2)
    result = ask(only, workload=rate(1500), limits=limits)
    assert result.obstacle is Obstacle.CAPACITY
    nearest = by_dimension(result)
    replicas = nearest[Dimension.REPLICAS]
    assert replicas.value > 2
    assert replicas.cost_per_hour == pytest.approx(0.02 * replicas.value)
    more = Limits(maximum_replicas=int(replicas.value))
    assert ask([candidate("fp32")], workload=rate(1500), limits=more).feasible
    fewer = Limits(maximum_replicas=int(replicas.value) - 1)
    assert not ask([candidate("fp32")], workload=rate(1500), limits=fewer).feasible
    found = nearest[Dimension.RATE]
    assert 0 < found.value < 1500
    assert ask(only, workload=rate(found.value), limits=limits).feasible
    assert not ask(only, workload=rate(found.value * 1.1), limits=limits).feasible


def test_a_floor_that_nobody_reaches() -> None:
    floor = replace(BUDGET, accuracy=AccuracyFloor(metric="f1Macro", minimum=0.9))
    result = ask(four_variants(), budget=floor)
    assert result.obstacle is Obstacle.ACCURACY
    nearest = by_dimension(result)
    assert set(nearest) == {Dimension.ACCURACY}
    assert nearest[Dimension.ACCURACY].value == 0.75
    assert nearest[Dimension.ACCURACY].cost_per_hour == 0.02
