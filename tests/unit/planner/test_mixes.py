"""Mixes of classes, headroom, classes of traffic, and the replay of a trace."""

from dataclasses import replace

import numpy as np
import pytest

from cycleops.planner import (
    Budget,
    Candidate,
    Dimension,
    Headroom,
    Limits,
    Plan,
    PlanGroup,
    PlanResult,
    RejectReason,
    Settings,
    TrafficClass,
    Workload,
    plan,
)
from cycleops.planner.replay import replay
from tests.unit.planner.profiles import candidate

WORKLOAD = Workload(rate_per_second=300, input_tokens_p50=16, input_tokens_p99=48)
BUDGET = Budget(percentile=99, latency_milliseconds=80)
LIMITS = Limits(maximum_replicas=12, mixes=True)
QUICK = Settings(requests=6_000)
# Large machines are the cheaper ones per request, and there are two of them.
TWO = [
    candidate("fp32", base_seconds=0.003, hardware="large", cost_per_hour=0.05, maximum_replicas=2),
    candidate("fp32", base_seconds=0.009, hardware="small", cost_per_hour=0.03),
]


def ask(
    rate: float, *, limits: Limits = LIMITS, candidates: list[Candidate] = TWO, workload: Workload = WORKLOAD
) -> PlanResult:
    changed = replace(workload, rate_per_second=rate)
    return plan(workload=changed, budget=BUDGET, candidates=candidates, limits=limits, settings=QUICK)


def found(result: PlanResult) -> Plan:
    assert result.plan is not None, result.sentences
    return result.plan


def test_a_second_class_is_added_when_the_first_has_no_more_machines() -> None:
    mixed, alone = ask(2_000), ask(2_000, limits=replace(LIMITS, mixes=False))
    plan_of = found(mixed)
    assert [group.hardware for group in plan_of.groups] == ["large", "small"]
    assert plan_of.groups[0].replicas == 2
    assert plan_of.cost_per_hour == pytest.approx(sum(group.cost_per_hour for group in plan_of.groups))
    assert plan_of.predicted.sized_at_ms <= 80
    assert alone.plan is None or alone.plan.cost_per_hour > plan_of.cost_per_hour
    assert any("mix of classes" in sentence for sentence in mixed.sentences)


def test_one_class_is_kept_where_a_mix_is_not_cheaper() -> None:
    result = ask(100)
    assert len(found(result).groups) == 1
    assert result.plan == ask(100, limits=replace(LIMITS, mixes=False)).plan
    assert any(sentence.startswith("No mix of classes is cheaper") for sentence in result.sentences)


def test_what_one_class_costs_stands_beside_the_mix() -> None:
    for rate in (2_000, 2_500):
        result = ask(rate)
        if len(found(result).groups) > 1 and (lost := [r for r in result.rejected if "the mix costs" in r.message]):
            assert lost[0].reason is RejectReason.COSTLIER
            return
    pytest.fail("no rate has both a mix and a plan of one class")


def test_infeasible_mixes_say_what_would_be_feasible() -> None:
    result = ask(3_000, limits=replace(LIMITS, maximum_replicas=3))
    assert not result.feasible
    nearest = {one.dimension: one for one in result.nearest}
    assert nearest[Dimension.REPLICAS].value > 3
    assert 0 < nearest[Dimension.RATE].value < 3_000
    lower = ask(nearest[Dimension.RATE].value, limits=replace(LIMITS, maximum_replicas=3))
    assert found(lower).cost_per_hour <= nearest[Dimension.RATE].cost_per_hour


def test_headroom_is_what_may_be_lost() -> None:
    assert [Headroom(replicas=1).left_of(n) for n in (1, 2, 5)] == [0, 1, 4]
    assert [Headroom(zones=3).left_of(n) for n in (1, 3, 4, 6, 7)] == [0, 2, 2, 4, 4]
    assert Headroom(replicas=2, zones=3).left_of(3) == 1
    assert set(Headroom(replicas=2).remainders((1, 3))) == {(1, 1), (0, 2)}
    assert Headroom(zones=2).remainders((1, 3)) == [(0, 1)]
    assert Headroom().remainders((4,)) == []


@pytest.mark.parametrize("headroom", [Headroom(replicas=1), Headroom(replicas=2), Headroom(zones=3)])
def test_after_the_loss_the_plan_is_still_one(headroom: Headroom) -> None:
    only = [candidate("fp32")]
    result = ask(250, candidates=only, limits=Limits(maximum_replicas=12, headroom=headroom))
    needed = found(ask(250, candidates=only)).replicas
    chosen = found(result)
    assert headroom.left_of(chosen.replicas) >= needed > headroom.left_of(chosen.replicas - 1)
    assert any("after the loss of" in sentence for sentence in result.sentences)


def test_a_limit_that_leaves_nothing_after_the_loss_is_told() -> None:
    result = ask(20, candidates=[candidate("fp32")], limits=Limits(maximum_replicas=1, headroom=Headroom(replicas=1)))
    assert not result.feasible
    assert "leave none" in result.rejected[0].message


SHORT = TrafficClass(
    name="short", rate_share=0.8, input_tokens_p50=8, input_tokens_p99=16, percentile=99, latency_share=0.4
)
LONG = TrafficClass(name="long", rate_share=0.2, input_tokens_p50=32, input_tokens_p99=60, percentile=95)


def test_each_class_of_traffic_holds_its_own_budget() -> None:
    result = ask(150, candidates=[candidate("fp32")], workload=replace(WORKLOAD, classes=(SHORT, LONG)))
    classes = found(result).predicted.classes
    assert [(one.name, one.percentile) for one in classes] == [("short", 99), ("long", 95)]
    assert classes[0].sized_at_ms <= 0.4 * 80
    assert classes[1].sized_at_ms <= 80
    assert any(sentence.startswith("Class short: p99 is") for sentence in result.sentences)


def test_a_stricter_class_costs_more_and_one_class_is_as_none() -> None:
    only = [candidate("fp32")]
    same = TrafficClass(name="all", rate_share=1.0, input_tokens_p50=16, input_tokens_p99=48, percentile=99)
    plain = found(ask(300, candidates=only))
    one = found(ask(300, candidates=only, workload=replace(WORKLOAD, classes=(same,))))
    strict = found(ask(300, candidates=only, workload=replace(WORKLOAD, classes=(replace(same, latency_share=0.25),))))
    assert (one.replicas, one.predicted.latency_ms) == (plain.replicas, pytest.approx(plain.predicted.latency_ms))
    assert strict.replicas > plain.replicas


def test_a_replay_at_the_planned_rate_is_what_was_predicted() -> None:
    chosen = found(ask(100, candidates=[candidate("fp32")]))
    gaps = np.random.default_rng(3).exponential(1 / 100, 40_000)
    result = replay(
        arrivals_seconds=np.cumsum(gaps),
        workload=WORKLOAD,
        budget=BUDGET,
        groups=[(candidate("fp32"), group) for group in chosen.groups],
        window_seconds=50.0,
    )
    assert result.p99_ms == pytest.approx(chosen.predicted.p99_ms, rel=0.1)
    assert result.utilization == pytest.approx(chosen.predicted.utilization, rel=0.05)
    assert np.mean([w.utilization for w in result.windows[:-1]]) == pytest.approx(result.utilization, rel=0.03)
    assert sum(window.requests for window in result.windows) == 40_000


def test_a_replay_of_nothing_is_refused() -> None:
    group = PlanGroup(hardware="cpu-small", batch_size=1, delay_milliseconds=0, replicas=1, cost_per_hour=0)
    with pytest.raises(ValueError, match="from 2 to"):
        replay(
            arrivals_seconds=np.array([1.0]),
            workload=WORKLOAD,
            budget=BUDGET,
            groups=[(candidate("fp32"), group)],
            window_seconds=1.0,
        )
