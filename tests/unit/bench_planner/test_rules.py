"""The simpler rules choose what they say, and the judge finds what the planner predicts."""

from itertools import islice

import pytest

from bench.planner.instances import METRIC, Instance, instances
from bench.planner.rules import OURS, compare, judge, ours, rows
from bench.planner.simple import RULES
from cycleops.planner import plan

SOME = list(islice(instances(), 6))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("instance", SOME)
def test_a_rule_keeps_to_floor_and_limits(name: str, instance: Instance) -> None:
    pick = RULES[name](instance)
    if pick is None:
        return
    candidate = next(
        c for c in instance.candidates if (c.profile.variant, c.hardware.name) == (pick.variant, pick.hardware)
    )
    assert instance.budget.accuracy is not None
    assert (candidate.metric(METRIC) or 0) >= (instance.budget.accuracy.minimum or 0)
    assert 1 <= pick.replicas <= instance.limits.maximum_replicas


def test_the_judge_is_another_simulation_of_the_same() -> None:
    instance = next(one for one in SOME if ours(one) is not None)
    pick = ours(instance)
    assert pick is not None
    predicted = plan(
        workload=instance.workload,
        budget=instance.budget,
        candidates=instance.candidates,
        limits=instance.limits,
        algorithm=instance.algorithm,
    ).plan
    assert predicted is not None
    judged = judge(instance, pick, 0)
    assert judged.latency_ms == pytest.approx(predicted.predicted.latency_ms, rel=0.1)
    assert judged.latency_ms != predicted.predicted.latency_ms
    assert judged.cost_per_hour == pytest.approx(predicted.cost_per_hour)


def test_the_table_has_a_row_for_each_rule() -> None:
    table = rows(compare(2))
    assert [row.rule for row in table] == [OURS, *RULES]
    assert table[0].mean_cost_ratio_where_it_holds == pytest.approx(1)
