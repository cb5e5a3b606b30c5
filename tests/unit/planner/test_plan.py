"""The planner's answers on synthetic profiles."""

import json
import math
from dataclasses import replace

import pytest

from cycleops.planner import (
    AccuracyFloor,
    Algorithm,
    Budget,
    Candidate,
    Limits,
    Obstacle,
    Pinned,
    PlanResult,
    RejectReason,
    Settings,
    Workload,
    plan,
    to_dict,
)
from tests.unit.planner.profiles import candidate, four_variants

WORKLOAD = Workload(rate_per_second=20, input_tokens_p50=16, input_tokens_p99=48)
FLOOR = AccuracyFloor(metric="f1Macro", maximum_drop=0.02, baseline="fp32")
BUDGET = Budget(percentile=99, latency_milliseconds=80, pre_milliseconds=10, post_milliseconds=5, accuracy=FLOOR)
LIMITS = Limits(minimum_replicas=1, maximum_replicas=6)
QUICK = Settings(requests=4_000)


def ask(
    candidates: list[Candidate] | None = None,
    *,
    workload: Workload = WORKLOAD,
    budget: Budget = BUDGET,
    limits: Limits = LIMITS,
    algorithm: Algorithm = Algorithm.LEAST_CONNECTIONS,
    pinned: Pinned | None = None,
    settings: Settings = QUICK,
) -> PlanResult:
    return plan(
        workload=workload,
        budget=budget,
        candidates=four_variants() if candidates is None else candidates,
        limits=limits,
        algorithm=algorithm,
        pinned=pinned,
        settings=settings,
    )


def latency(milliseconds: float) -> Budget:
    return replace(BUDGET, latency_milliseconds=milliseconds)


def rate(per_second: float) -> Workload:
    return replace(WORKLOAD, rate_per_second=per_second)


def test_light_load_takes_the_most_accurate_of_the_cheapest() -> None:
    result = ask()
    assert result.feasible
    assert result.plan is not None
    assert (result.plan.variant, result.plan.replicas, result.plan.cost_per_hour) == ("fp32", 1, 0.02)
    assert result.plan.predicted.sized_at_ms < 80
    assert result.obstacle is None


def test_every_other_choice_is_told_why_it_lost() -> None:
    result = ask()
    assert result.plan is not None
    told = {(r.variant, r.batch_size) for r in result.rejected}
    all_sizes = {(v, b) for v in ("fp32", "bf16", "int8") for b in (1, 2, 4, 8, 16)}
    assert told == (all_sizes | {("pruned30-int8", None)}) - {("fp32", result.plan.batch_size)}
    assert all(any(c.isdigit() for c in r.message) for r in result.rejected)
    by_variant = {r.variant: r.reason for r in result.rejected}
    assert by_variant["pruned30-int8"] is RejectReason.BELOW_ACCURACY_FLOOR
    assert by_variant["int8"] is RejectReason.LESS_ACCURATE


def test_when_replicas_cost_more_than_accuracy_is_worth_the_faster_variant_wins() -> None:
    result = ask(workload=rate(600), budget=latency(40))
    assert result.plan is not None
    assert result.plan.variant != "fp32"
    assert any(r.variant == "fp32" and r.reason is RejectReason.COSTLIER for r in result.rejected)


def test_cheaper_hardware_wins_when_it_suffices_and_loses_when_it_does_not() -> None:
    both = [
        candidate("fp32", base_seconds=0.03, hardware="edge", cost_per_hour=0.005),
        candidate("fp32", base_seconds=0.002, hardware="gpu", cost_per_hour=0.7),
    ]
    relaxed = ask(both, workload=rate(5), budget=Budget(percentile=99, latency_milliseconds=500))
    strict = ask(both, workload=rate(5), budget=Budget(percentile=99, latency_milliseconds=20))
    assert relaxed.plan is not None
    assert relaxed.plan.hardware == "edge"
    assert strict.plan is not None
    assert strict.plan.hardware == "gpu"
    assert any(r.reason is RejectReason.LATENCY_FLOOR and r.hardware == "edge" for r in strict.rejected)


def test_the_same_question_has_the_same_answer() -> None:
    assert to_dict(ask(workload=rate(300))) == to_dict(ask(workload=rate(300)))


def test_more_traffic_is_met_with_more_replicas() -> None:
    only = [candidate("fp32")]
    replicas = [
        result.plan.replicas
        for r in (50.0, 300.0, 600.0)
        if (result := ask(only, workload=rate(r), limits=Limits(maximum_replicas=20))).plan is not None
    ]
    assert len(replicas) == 3
    assert replicas == sorted(set(replicas))


def test_cache_hits_take_load_off() -> None:
    only, limits = [candidate("fp32")], Limits(maximum_replicas=20)
    cold = ask(only, workload=rate(600), limits=limits)
    warm = ask(only, workload=replace(rate(600), cache_hit_ratio_lower=0.8), limits=limits)
    assert cold.plan is not None
    assert warm.plan is not None
    assert warm.plan.replicas < cold.plan.replicas
    assert warm.plan.predicted.p50_ms < cold.plan.predicted.p50_ms  # most are answered by the sidecar


def test_bursts_need_more_than_poisson() -> None:
    only = [candidate("fp32", batch_sizes=(1,))]
    smooth = ask(only, workload=rate(60), budget=latency(60))
    bursty = ask(only, workload=replace(rate(60), burstiness_cv2=16.0), budget=latency(60))
    assert smooth.plan is not None
    assert bursty.plan is not None
    assert bursty.plan.cost_per_hour > smooth.plan.cost_per_hour


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_every_algorithm_is_predicted(algorithm: Algorithm) -> None:
    result = ask([candidate("fp32")], workload=rate(250), algorithm=algorithm, limits=Limits(maximum_replicas=20))
    assert result.feasible


def test_least_connections_is_predicted_better_than_blind_spreading() -> None:
    pinned = Pinned(variant="fp32", hardware="cpu-small", batch_size=1, delay_milliseconds=0, replicas=4)
    p99 = {
        algorithm: result.plan.predicted.p99_ms
        for algorithm in Algorithm
        if (result := ask(workload=rate(400), algorithm=algorithm, pinned=pinned)).plan is not None
    }
    assert p99[Algorithm.LEAST_CONNECTIONS] < p99[Algorithm.CONSISTENT_HASH]
    assert p99[Algorithm.ROUND_ROBIN] < p99[Algorithm.CONSISTENT_HASH]


def test_terms_add_up_in_the_mean_and_the_band_holds_the_prediction() -> None:
    result = ask(workload=rate(150))
    assert result.plan is not None
    p = result.plan.predicted
    assert p.low_ms < p.latency_ms < p.high_ms
    assert p.latency_ms == pytest.approx(p.p99_ms)
    assert p.pre.mean_ms == pytest.approx(0.37, rel=0.1)  # 0.3 ms and 4 us a token
    assert p.post.mean_ms == pytest.approx(0.1, rel=0.05)
    assert p.overhead.mean_ms == pytest.approx(3.0, rel=0.05)  # 2 ms measured, 1 ms for the balancer
    assert 0 < p.load < p.utilization < 1


def test_the_frontier_holds_what_nothing_beats() -> None:
    result = ask()
    assert {point.variant for point in result.frontier} == {"fp32", "bf16", "int8"}
    for a in result.frontier:
        for b in result.frontier:
            assert a is b or a.cost_per_hour < b.cost_per_hour or a.p99_ms < b.p99_ms or _value(a) > _value(b)


def _value(point: object) -> float:
    value = getattr(point, "accuracy", None)
    assert isinstance(value, float)
    return value


def test_lengths_beyond_the_measured_are_refused_and_a_few_are_flagged() -> None:
    long = ask(workload=replace(WORKLOAD, input_tokens_p99=100))
    assert not long.feasible
    assert long.obstacle is Obstacle.LENGTHS and "longer inputs than any that was measured" in long.sentences[0]
    assert {r.reason for r in long.rejected} == {RejectReason.OUTSIDE_MEASURED_RANGE}
    assert "64" in long.rejected[0].message
    assert any("extrapolated" in sentence for sentence in ask().sentences)


def test_missing_evidence_is_named() -> None:
    other = replace(BUDGET, accuracy=AccuracyFloor(metric="recall", minimum=0.5))
    assert {r.reason for r in ask(budget=other).rejected} == {RejectReason.METRIC_MISSING}
    without = [c for c in four_variants() if c.profile.variant != "fp32"]
    assert {r.reason for r in ask(without).rejected} == {RejectReason.BASELINE_MISSING}
    rowless = candidate("empty")
    rowless = replace(rowless, profile=rowless.profile.model_copy(update={"rows": []}))
    reasons = {r.variant: r.reason for r in ask([*four_variants(), rowless]).rejected}
    assert reasons["empty"] is RejectReason.NO_ROWS
    assert ask([]).obstacle is Obstacle.NO_PROFILES


def test_stale_and_missing_profiles_are_named() -> None:
    stale = replace(candidate("bf16", hardware="edge"), stale="HardwareClass edge changed since it was measured")
    sentences = ask([*four_variants(), stale]).sentences
    assert "The profile of bf16 on edge is stale: HardwareClass edge changed since it was measured." in sentences
    missing = [text for text in sentences if text.startswith("Never measured")]
    assert missing == ["Never measured, so not considered: fp32 on edge, int8 on edge, pruned30-int8 on edge."]
    assert not [text for text in ask().sentences if "measured, so not" in text or "stale" in text]


def test_a_stage_cap_that_nobody_meets() -> None:
    result = ask(budget=replace(BUDGET, post_milliseconds=0.05))
    assert not result.feasible
    assert result.obstacle is Obstacle.STAGE
    assert RejectReason.STAGE_CAP in {r.reason for r in result.rejected}


def test_a_pinned_plan_is_judged_and_shown_also_when_it_fails() -> None:
    pinned = Pinned(variant="fp32", hardware="cpu-small", batch_size=4, delay_milliseconds=0, replicas=2)
    good = ask(pinned=pinned)
    assert good.feasible
    assert good.plan is not None
    assert (good.plan.variant, good.plan.batch_size, good.plan.replicas) == ("fp32", 4, 2)
    bad = ask(pinned=pinned, budget=latency(5))
    assert not bad.feasible
    assert bad.obstacle is Obstacle.PINNED
    assert bad.plan is not None
    assert bad.plan.predicted.p99_ms > 5


def test_two_profiles_of_one_place_are_an_error() -> None:
    with pytest.raises(ValueError, match="same variant and hardware"):
        ask([candidate("fp32"), candidate("fp32")])


def test_the_result_is_json() -> None:
    content = json.loads(json.dumps(to_dict(ask())))
    assert content["plan"]["predicted"]["queue"]["p99_ms"] >= 0
    assert content["rejected"][0]["reason"] == "BelowAccuracyFloor"
    assert not any(isinstance(v, float) and math.isnan(v) for v in content["plan"]["predicted"].values())


def test_inputs_that_are_all_alike_are_planned_from_one_length() -> None:
    """As images are: measured at length 1 only."""
    one = Workload(rate_per_second=20, input_tokens_p50=1, input_tokens_p99=1)
    slow, quick = (
        candidate(name, base_seconds=seconds, lengths=(1,)) for name, seconds in (("fp32", 0.02), ("int8", 0.005))
    )
    found = ask([slow, quick], workload=one)
    assert found.plan is not None
    assert found.plan.variant == "int8" and found.plan.predicted.sized_at_ms < 80
    assert found.plan.predicted.extrapolated_share == 0
