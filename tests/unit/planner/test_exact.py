"""The search against brute force: every variant, class, batch, delay and number of replicas, and every mix."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cycleops.planner import AccuracyFloor, Algorithm, Budget, Headroom, Limits, Pinned, Settings, Workload
from cycleops.planner.choice import Choice, Fleet, Prepared
from cycleops.planner.evaluate import Evaluator
from cycleops.planner.integer import Classes, cheapest
from cycleops.planner.mix import Mix, cost_of_fleet, find
from cycleops.planner.prepare import Problem, delays_seconds, prepare
from cycleops.planner.search import screen
from tests.unit.planner.profiles import candidate

MOST = 4
few = settings(max_examples=40, deadline=None, derandomize=True)

classes = st.lists(
    st.tuples(st.sampled_from([0.003, 0.006, 0.012, 0.025]), st.integers(1, 9), st.integers(1, 3)),
    min_size=2,
    max_size=3,
)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Two or three classes of hardware, each with one to three machines, and one or two variants."""
    hardware = draw(classes)
    variants = draw(st.sampled_from([((1.0, 0.8),), ((1.0, 0.8), (0.6, 0.7))]))
    return Problem(
        workload=Workload(rate_per_second=draw(st.floats(20, 500)), input_tokens_p50=16, input_tokens_p99=48),
        budget=Budget(
            percentile=90,
            latency_milliseconds=draw(st.floats(15, 120)),
            accuracy=AccuracyFloor(metric="f1Macro", minimum=draw(st.sampled_from([0.6, 0.75]))),
        ),
        candidates=tuple(
            candidate(
                f"v{number}",
                base_seconds=round(seconds * size, 5),
                accuracy=accuracy,
                hardware=f"class-{index}",
                cost_per_hour=cost / 100,
                maximum_replicas=most,
                batch_sizes=(1, 4),
            )
            for index, (seconds, cost, most) in enumerate(hardware)
            for number, (size, accuracy) in enumerate(variants)
        ),
        limits=Limits(maximum_replicas=MOST, mixes=True, headroom=draw(headrooms)),
        algorithm=draw(st.sampled_from(list(Algorithm))),
        seed=0,
        pinned=Pinned(),
        settings=Settings(requests=1_500),
    )


headrooms = st.sampled_from([Headroom(), Headroom(), Headroom(replicas=1), Headroom(zones=2)])


def holds(problem: Problem, evaluator: Evaluator, fleet: Fleet) -> bool:
    """By simulation to the end, of the fleet and of what each loss leaves."""
    counts = tuple(choice.replicas for _, choice in fleet)
    headroom = problem.limits.headroom
    for left in (*headroom.remainders(counts), counts):
        some = tuple((one, replace(c, replicas=n)) for (one, c), n in zip(fleet, left, strict=True) if n)
        if not some or evaluator.fleet_load(some) > problem.settings.maximum_utilization * (1 + 1e-12):
            return False
        if evaluator.predict_fleet(some).sized_at_ms > problem.budget.latency_milliseconds:
            return False
    return True


def fleets(problem: Problem, evaluator: Evaluator, prepared: list[Prepared]) -> Iterator[Fleet]:
    for one in prepared:
        for size, replicas in itertools.product(one.times.batch_sizes, range(1, MOST + 1)):
            if replicas <= problem.replica_bounds(one.candidate)[1]:
                left = problem.limits.headroom.left_of(replicas)
                for delay in delays_seconds(problem, evaluator, one, size, left) if left else ():
                    yield ((one, Choice(batch_size=size, delay_seconds=delay, replicas=replicas)),)
    for variant in {one.key[0] for one in prepared}:
        members = [one for one in prepared if one.key[0] == variant]
        bounds = [range(problem.replica_bounds(one.candidate)[1] + 1) for one in members]
        for counts in itertools.product(*bounds):
            used = [(one, count) for one, count in zip(members, counts, strict=True) if count]
            if len(used) > 1 and sum(counts) <= MOST:
                for sizes in itertools.product((1, 4), repeat=len(used)):
                    yield tuple(
                        (one, Choice(batch_size=size, delay_seconds=0.0, replicas=count))
                        for (one, count), size in zip(used, sizes, strict=True)
                    )


def brute_force(problem: Problem) -> tuple[float, float]:
    """Cost, then lack of accuracy, of the best; infinite when there is none."""
    evaluator = problem.evaluator()
    passed, _ = prepare(problem)
    fit = [one for one in passed if screen(problem, evaluator, one) is None]
    best = (math.inf, math.inf)
    for fleet in fleets(problem, evaluator, fit):
        rank = cost_of_fleet(fleet), max(one.lack_of_accuracy for one, _ in fleet)
        # A mix must be cheaper: of equals, one class is simpler.
        if (rank[0] < best[0] or (len(fleet) == 1 and rank < best)) and holds(problem, evaluator, fleet):
            best = rank
    return best


@few
@given(problems())
def test_the_search_finds_what_brute_force_finds(problem: Problem) -> None:
    expected, found = brute_force(problem), find(problem, problem.evaluator())
    if found is None:
        assert math.isinf(expected[0])
        return
    assert found.rank[0] == expected[0]
    if not isinstance(found, Mix):
        assert found.rank[1] == expected[1]


@few
@given(
    st.lists(st.tuples(st.floats(0.01, 2), st.floats(1, 100), st.integers(0, 4)), min_size=2, max_size=4),
    st.floats(1, 400),
    st.integers(2, 8),
    st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), max_size=3),
)
def test_the_program_finds_the_cheapest_vector(
    columns: list[tuple[float, float, int]], demand: float, high: int, refused: list[list[int]]
) -> None:
    costs, capacities, maximum = (tuple(values) for values in zip(*columns, strict=True))
    asked = Classes(costs=costs, capacities=capacities, maximum=maximum, low=1, high=high)
    no = [tuple(vector[: len(columns)]) for vector in refused]
    allowed = [
        vector
        for vector in itertools.product(*(range(most + 1) for most in maximum))
        if sum(vector) <= high
        and sum(count > 0 for count in vector) >= 2
        and sum(q * n for q, n in zip(capacities, vector, strict=True)) >= demand * (1 + 1e-5)
        and all(any(n > r for n, r in zip(vector, other, strict=True)) for other in no)
    ]
    found = cheapest(asked, demand=demand, below_cost=math.inf, refused=no)
    prices = [sum(c * n for c, n in zip(costs, vector, strict=True)) for vector in allowed]
    if found is None:
        assert not allowed
    elif prices:
        assert sum(c * n for c, n in zip(costs, found, strict=True)) <= min(prices) * (1 + 1e-6)
        assert all(any(n > r for n, r in zip(found, other, strict=True)) for other in no)
