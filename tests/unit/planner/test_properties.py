"""What must hold for every input. Derandomized: the same examples on every machine."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cycleops.planner import (
    AccuracyFloor,
    Budget,
    Candidate,
    Headroom,
    Limits,
    Planner,
    Settings,
    TrafficClass,
    Workload,
    to_dict,
)
from cycleops.planner.choice import Choice, Prepared
from cycleops.planner.mix import Mix, find
from cycleops.planner.model import Algorithm, Pinned
from cycleops.planner.option import Option
from cycleops.planner.prepare import Problem
from cycleops.planner.service_time import ServiceTimes, service_times
from tests.unit.planner.profiles import candidate

few = settings(max_examples=25, deadline=None, derandomize=True)

variants = st.builds(
    lambda name, milliseconds, accuracy, cost: candidate(
        f"v{name}",
        base_seconds=milliseconds / 1000,
        accuracy=accuracy / 100,
        cost_per_hour=cost / 100,
        hardware=f"class-{cost}",
        batch_sizes=(1, 4),
    ),
    st.integers(0, 3),
    st.integers(2, 12),
    st.integers(60, 90),
    st.integers(1, 5),
)
candidate_lists = st.lists(variants, min_size=1, max_size=3, unique_by=lambda c: (c.profile.variant, c.hardware.name))
rates = st.floats(2, 800)
latencies = st.floats(8, 150)
percentiles = st.sampled_from([80.0, 90.0, 95.0])  # each leaves 60 of 2,000 requests beyond it, so all draw as many
algorithms = st.sampled_from(list(Algorithm))


def best(problem: Problem) -> Option | Mix | None:
    return find(problem, problem.evaluator())


def cost(problem: Problem) -> float:
    """Infinite when nothing is feasible."""
    option = best(problem)
    return math.inf if option is None else option.cost_per_hour


SHORT = TrafficClass(
    name="short", rate_share=0.7, input_tokens_p50=8, input_tokens_p99=24, percentile=95, latency_share=0.7
)
LONG = TrafficClass(name="long", rate_share=0.3, input_tokens_p50=24, input_tokens_p99=60, percentile=80)
headrooms = st.sampled_from([Headroom(), Headroom(replicas=1), Headroom(zones=3)])


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    floor = draw(st.none() | st.integers(60, 90))
    return Problem(
        workload=Workload(
            rate_per_second=draw(rates),
            input_tokens_p50=16,
            input_tokens_p99=48,
            classes=draw(st.sampled_from([(), (SHORT, LONG)])),
        ),
        budget=Budget(
            percentile=draw(percentiles),
            latency_milliseconds=draw(latencies),
            accuracy=None if floor is None else AccuracyFloor(metric="f1Macro", minimum=floor / 100),
        ),
        candidates=tuple(draw(candidate_lists)),
        limits=Limits(maximum_replicas=8, mixes=draw(st.booleans()), headroom=draw(headrooms)),
        algorithm=draw(algorithms),
        seed=0,
        pinned=Pinned(),
        settings=Settings(requests=2_000),
    )


@few
@given(problems(), st.floats(0.3, 1.0))
def test_a_tighter_budget_never_costs_less(problem: Problem, share: float) -> None:
    milliseconds = problem.budget.latency_milliseconds * share
    tighter = replace(problem, budget=replace(problem.budget, latency_milliseconds=milliseconds))
    assert cost(tighter) >= cost(problem)


@few
@given(problems())
def test_a_higher_percentile_never_costs_less(problem: Problem) -> None:
    stricter = replace(problem, budget=replace(problem.budget, percentile=97.0))
    assert cost(stricter) >= cost(problem)


@few
@given(problems(), st.floats(1.0, 3.0))
def test_more_traffic_never_costs_less(problem: Problem, factor: float) -> None:
    workload = replace(problem.workload, rate_per_second=problem.workload.rate_per_second * factor)
    assert cost(replace(problem, workload=workload)) >= cost(problem)


@few
@given(problems(), st.integers(60, 90), st.integers(0, 20))
def test_a_higher_floor_never_costs_less(problem: Problem, minimum: int, more: int) -> None:
    low, high = (
        replace(problem, budget=replace(problem.budget, accuracy=AccuracyFloor(metric="f1Macro", minimum=value / 100)))
        for value in (minimum, minimum + more)
    )
    assert cost(high) >= cost(low)


@few
@given(problems(), variants)
def test_one_candidate_more_never_makes_it_worse(problem: Problem, other: Candidate) -> None:
    names = {(c.profile.variant, c.hardware.name) for c in problem.candidates}
    if (other.profile.variant, other.hardware.name) in names:
        return
    before, after = best(problem), best(replace(problem, candidates=(*problem.candidates, other)))
    if before is not None:
        assert after is not None
        assert after.rank <= before.rank


@few
@given(problems(), st.lists(st.tuples(rates, latencies), min_size=1, max_size=3))
def test_planning_again_is_planning_from_nothing(problem: Problem, before: list[tuple[float, float]]) -> None:
    """Whatever was asked before: the same plan, reasons and numbers."""

    def asked(planner: Planner, rate: float, milliseconds: float) -> dict[str, object]:
        return to_dict(
            planner.plan(
                workload=replace(problem.workload, rate_per_second=rate),
                budget=replace(problem.budget, latency_milliseconds=milliseconds),
                candidates=problem.candidates,
                limits=problem.limits,
                algorithm=problem.algorithm,
                settings=problem.settings,
            )
        )

    planner, here = Planner(), (problem.workload.rate_per_second, problem.budget.latency_milliseconds)
    for rate, milliseconds in before:
        asked(planner, rate, milliseconds)
    assert asked(planner, *here) == asked(Planner(), *here)


@few
@given(problems())
def test_a_plan_holds_its_budget_and_its_limits(problem: Problem) -> None:
    option = best(problem)
    if option is None:
        return
    assert option.sizing.sized_at_ms <= problem.budget.latency_milliseconds
    assert 1 <= option.replicas <= problem.limits.maximum_replicas
    floor = problem.budget.accuracy
    assert floor is None or floor.minimum is None or -option.rank[1] >= floor.minimum


@few
@given(problems(), st.sampled_from([1, 4]), st.integers(1, 4), st.sampled_from([0.1, 10.0, 60.0]))
def test_units_are_consistent(problem: Problem, batch_size: int, replicas: int, factor: float) -> None:
    """Everything so many times slower, with so many times less traffic, takes so many times as long."""
    times = service_times(problem.candidates[0].profile)
    prepared = Prepared(candidate=problem.candidates[0], times=times, accuracy=None)
    slow = replace(prepared, times=_scaled(times, factor))
    slower = replace(
        problem,
        workload=replace(problem.workload, rate_per_second=problem.workload.rate_per_second / factor),
        settings=replace(problem.settings, balancer_overhead_seconds=0.001 * factor),
    )
    choice = Choice(batch_size=batch_size, delay_seconds=0.0, replicas=replicas)
    here = problem.evaluator().predict(prepared, choice)
    there = slower.evaluator().predict(slow, choice)
    for name in ("latency_ms", "sized_at_ms", "low_ms", "high_ms", "p50_ms", "p99_ms"):
        assert getattr(there, name) == pytest.approx(factor * getattr(here, name))
    assert there.queue.mean_ms == pytest.approx(factor * here.queue.mean_ms, abs=1e-6)
    assert (there.utilization, there.load) == pytest.approx((here.utilization, here.load))


def _scaled(times: ServiceTimes, factor: float) -> ServiceTimes:
    names = ("compute", "pre", "post", "overhead", "cache_hit")
    return replace(times, **{name: getattr(times, name) * factor for name in names})
