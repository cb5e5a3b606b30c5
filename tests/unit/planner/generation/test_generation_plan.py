"""Plans for models that generate, through the planner's one door."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cycleops.planner import (
    AccuracyFloor,
    Algorithm,
    Budget,
    Candidate,
    Dimension,
    Headroom,
    Limits,
    Obstacle,
    Pinned,
    PlanResult,
    RejectReason,
    Settings,
    TrafficClass,
    Workload,
    plan,
    to_dict,
)
from cycleops.planner.generation.evaluate import GenerationChoice
from cycleops.planner.generation.nearest import evaluator_of
from cycleops.planner.generation.outcomes import broken
from cycleops.planner.generation.search import prepare
from cycleops.planner.prepare import Problem
from tests.unit.planner.generation.profiles import CONCURRENCIES, generating
from tests.unit.planner.profiles import candidate

WORKLOAD = Workload(
    rate_per_second=3, input_tokens_p50=60, input_tokens_p99=300, output_tokens_p50=40, output_tokens_p99=120
)
BUDGET = Budget(percentile=95, latency_milliseconds=5000)
LIMITS = Limits(maximum_replicas=8)
QUICK = Settings(requests=4_000)


def candidates() -> list[Candidate]:
    return [
        generating("fp32", base_seconds=0.01, accuracy=0.60),
        generating("int8", base_seconds=0.006, accuracy=0.58),
        generating("pruned", base_seconds=0.004, accuracy=0.50),
    ]


def ask(
    budget: Budget = BUDGET,
    workload: Workload = WORKLOAD,
    among: list[Candidate] | None = None,
    limits: Limits = LIMITS,
    pinned: Pinned | None = None,
    **more: object,
) -> PlanResult:
    return plan(
        workload=workload,
        budget=budget,
        candidates=candidates() if among is None else among,
        limits=limits,
        pinned=pinned,
        settings=QUICK,
        **more,  # type: ignore[arg-type]
    )


def test_a_plan_says_times_of_tokens() -> None:
    result = ask(replace(BUDGET, first_token_milliseconds=400, per_token_milliseconds=60))
    assert result.feasible
    assert result.plan is not None
    predicted = result.plan.predicted
    assert predicted.generation is not None
    assert predicted.latency_ms <= predicted.sized_at_ms <= 5000
    assert predicted.generation.first_token.sized_at_ms <= 400
    assert predicted.generation.per_token.sized_at_ms <= 60
    assert result.plan.batch_size in CONCURRENCIES
    assert predicted.generation.first_token.p50_ms < predicted.p50_ms
    assert predicted.generation.tokens_per_second > WORKLOAD.rate_per_second * 40
    sentences = " ".join(result.sentences)
    assert "time to first token" in sentences
    assert "of its cap 60 ms" in sentences
    assert to_dict(result)["plan"]["predicted"]["generation"]["per_token"]["budgeted_ms"] > 0


@pytest.mark.parametrize(
    "caps",
    [
        {},
        {"per_token_milliseconds": 14.0},
        {"first_token_milliseconds": 120.0},
        {"first_token_milliseconds": 90.0, "per_token_milliseconds": 9.0},
    ],
)
def test_nothing_that_holds_is_cheaper(caps: dict[str, float]) -> None:
    """Against every candidate, limit and number of replicas, each simulated."""
    budget = replace(BUDGET, accuracy=AccuracyFloor(metric="accuracy", minimum=0.55), **caps)
    problem = Problem(
        workload=WORKLOAD,
        budget=budget,
        candidates=tuple(candidates()),
        limits=LIMITS,
        algorithm=Algorithm.LEAST_CONNECTIONS,
        seed=0,
        pinned=Pinned(),
        settings=QUICK,
    )
    evaluator = evaluator_of(problem)
    costs = [
        one.candidate.hardware.cost_per_hour * replicas
        for one, sequences, replicas in product(prepare(problem)[0], CONCURRENCIES, range(1, 9))
        if evaluator.load(one, sequences, replicas) <= QUICK.maximum_utilization
        and not broken(evaluator.size(one, GenerationChoice(sequences=sequences, replicas=replicas)), budget)
    ]
    result = ask(budget)
    assert result.feasible == bool(costs)
    if result.plan is not None:
        assert result.plan.cost_per_hour == pytest.approx(min(costs))


def test_a_cap_of_tokens_limits_how_many_run_together() -> None:
    loose = ask(among=[generating("fp32")])
    tight = ask(replace(BUDGET, per_token_milliseconds=16), among=[generating("fp32")])
    assert loose.plan is not None
    assert tight.plan is not None
    assert tight.plan.cost_per_hour > loose.plan.cost_per_hour
    assert tight.plan.predicted.mean_batch < loose.plan.predicted.mean_batch


def test_below_the_floor_and_too_slow_alone() -> None:
    floor = AccuracyFloor(metric="accuracy", minimum=0.55)
    result = ask(replace(BUDGET, accuracy=floor, first_token_milliseconds=90))
    reasons = {item.variant: item.reason for item in result.rejected if item.batch_size is None}
    assert reasons == {"pruned": RejectReason.BELOW_ACCURACY_FLOOR, "fp32": RejectReason.STAGE_CAP}
    assert result.plan is not None
    assert result.plan.variant == "int8"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"input_tokens_p99": 900}, "measured up to 512"),
        ({"output_tokens_p99": 900}, "sequences of up to 640"),
    ],
)
def test_beyond_what_was_measured_is_refused(change: dict[str, int], text: str) -> None:
    result = ask(workload=replace(WORKLOAD, **change))  # type: ignore[arg-type]
    assert {item.reason for item in result.rejected} == {RejectReason.OUTSIDE_MEASURED_RANGE}
    assert text in result.rejected[0].message


def test_more_sequences_than_were_measured_are_refused() -> None:
    pinned = Pinned(variant="fp32", hardware="cpu-small", batch_size=64, replicas=1)
    result = ask(pinned=pinned)
    assert not result.feasible
    assert any("64 sequences" in item.message for item in result.rejected)


def test_an_unreachable_cap_says_what_is_reachable() -> None:
    result = ask(replace(BUDGET, per_token_milliseconds=4.0))
    assert result.obstacle is Obstacle.STAGE
    nearest = {item.dimension: item for item in result.nearest}
    assert set(nearest) == {Dimension.PER_TOKEN}
    value = nearest[Dimension.PER_TOKEN].value
    again = ask(replace(BUDGET, per_token_milliseconds=value))
    assert again.plan is not None
    assert again.plan.cost_per_hour == pytest.approx(nearest[Dimension.PER_TOKEN].cost_per_hour)
    assert not ask(replace(BUDGET, per_token_milliseconds=value - 0.2)).feasible


def test_too_much_traffic_says_which_rate_and_how_many_replicas() -> None:
    result = ask(workload=replace(WORKLOAD, rate_per_second=60), limits=Limits(maximum_replicas=3))
    assert result.obstacle is Obstacle.CAPACITY
    nearest = {item.dimension: item for item in result.nearest}
    assert nearest[Dimension.RATE].value < 60
    assert nearest[Dimension.REPLICAS].value > 3


def test_headroom_holds_with_a_replica_lost() -> None:
    busy = replace(WORKLOAD, rate_per_second=8)
    without = ask(workload=busy)
    result = ask(workload=busy, limits=replace(LIMITS, headroom=Headroom(replicas=1)))
    assert without.plan is not None
    assert result.plan is not None
    assert result.plan.replicas == without.plan.replicas + 1
    assert any("any one replica" in sentence for sentence in result.sentences)


SHORT = TrafficClass(
    name="short", rate_share=0.7, input_tokens_p50=16, input_tokens_p99=32, percentile=95, latency_share=0.5
)
LONG = TrafficClass(name="long", rate_share=0.3, input_tokens_p50=128, input_tokens_p99=300, percentile=90)


def test_each_class_of_traffic_holds_its_own_budget() -> None:
    result = ask(workload=replace(WORKLOAD, classes=(SHORT, LONG)), among=[generating("fp32")])
    assert result.plan is not None
    classes = result.plan.predicted.classes
    assert [(one.name, one.percentile) for one in classes] == [("short", 95), ("long", 90)]
    assert classes[0].sized_at_ms <= 0.5 * BUDGET.latency_milliseconds
    assert classes[1].sized_at_ms <= BUDGET.latency_milliseconds
    assert any(sentence.startswith("Class long: p90 is") for sentence in result.sentences)


def test_a_stricter_class_never_costs_less_and_an_impossible_one_is_refused() -> None:
    def asked(share: float) -> PlanResult:
        classes = (replace(SHORT, latency_share=share), LONG)
        return ask(workload=replace(WORKLOAD, classes=classes), among=[generating("fp32")])

    loose, strict, impossible = asked(1.0), asked(0.25), asked(0.01)
    assert loose.plan is not None
    assert strict.plan is not None
    assert strict.plan.cost_per_hour > loose.plan.cost_per_hour
    assert not impossible.feasible
    assert {item.reason for item in impossible.rejected} == {RejectReason.LATENCY_FLOOR}


def test_a_pinned_plan_that_misses_is_judged() -> None:
    pinned = Pinned(variant="fp32", hardware="cpu-small", batch_size=16, replicas=1)
    result = ask(replace(BUDGET, per_token_milliseconds=11), pinned=pinned)
    assert result.obstacle is Obstacle.PINNED
    assert result.plan is not None
    assert result.plan.predicted.generation is not None
    assert result.plan.predicted.generation.per_token.budgeted_ms > 11


def test_mixed_tasks_are_an_error_with_a_reason() -> None:
    result = ask(among=[*candidates(), candidate("classifier")])
    assert not result.feasible
    assert {item.reason for item in result.rejected} == {RejectReason.MIXED_TASKS}
    assert "classifier on cpu-small was measured without generating" in result.sentences[0]


def test_answers_must_have_a_length() -> None:
    with pytest.raises(ValueError, match="output_tokens_p50"):
        ask(workload=replace(WORKLOAD, output_tokens_p50=None, output_tokens_p99=None))


def test_the_cache_takes_its_share() -> None:
    most = replace(WORKLOAD, rate_per_second=12, cache_hit_ratio=0.6, cache_hit_ratio_lower=0.6)
    among = [generating("fp32")]
    cold, warm = (
        ask(workload=replace(most, cache_hit_ratio=0, cache_hit_ratio_lower=0), among=among),
        ask(workload=most, among=among),
    )
    assert cold.plan is not None
    assert warm.plan is not None
    assert warm.plan.cost_per_hour < cold.plan.cost_per_hour
    assert warm.plan.predicted.p50_ms < 10


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_every_balancer_is_planned_for(algorithm: Algorithm) -> None:
    result = ask(algorithm=algorithm, workload=replace(WORKLOAD, rate_per_second=8))
    assert result.feasible
    assert result == ask(algorithm=algorithm, workload=replace(WORKLOAD, rate_per_second=8))


@settings(max_examples=8, deadline=None)
@given(
    rate=st.floats(0.5, 8),
    first=st.floats(80, 1000),
    each=st.floats(8, 80),
    tighter=st.sampled_from(["first_token_milliseconds", "per_token_milliseconds", "latency_milliseconds"]),
    factor=st.floats(0.5, 0.95),
)
def test_a_tighter_budget_never_costs_less(rate: float, first: float, each: float, tighter: str, factor: float) -> None:
    budget = replace(BUDGET, first_token_milliseconds=first, per_token_milliseconds=each)
    workload = replace(WORKLOAD, rate_per_second=rate)
    loose = ask(budget, workload)
    tight = ask(replace(budget, **{tighter: factor * getattr(budget, tighter)}), workload)  # type: ignore[arg-type]
    if tight.plan is not None:
        assert loose.plan is not None
        assert loose.plan.cost_per_hour <= tight.plan.cost_per_hour
