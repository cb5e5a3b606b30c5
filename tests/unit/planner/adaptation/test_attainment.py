"""The table of what replicas do: made by the planner's simulator, read between its points."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cycleops.planner import Algorithm, HardwareOption, Settings, Workload
from cycleops.planner.adaptation import Attainment, tabulate
from cycleops.planner.adaptation.tabulate import sizes
from cycleops.planner.choice import Choice, Prepared
from cycleops.planner.evaluate import Evaluator
from cycleops.planner.service_time import service_times
from tests.unit.planner.adaptation.tables import table
from tests.unit.planner.profiles import candidate

few = settings(max_examples=60, deadline=None, derandomize=True)
rates, slow = st.floats(0, 400), st.floats(0.4, 2.5)
CANDIDATE = candidate(base_seconds=0.02)
WORKLOAD = Workload(rate_per_second=1.0, input_tokens_p50=16, input_tokens_p99=48)
SETTINGS = Settings(requests=10_000)


@pytest.fixture(scope="module")
def made() -> Attainment:
    return tabulate(
        times=service_times(CANDIDATE.profile),
        hardware=HardwareOption(name="cpu-small", cost_per_hour=0.02),
        workload=WORKLOAD,
        budget_milliseconds=80.0,
        batch_size=4,
        delay_milliseconds=0.0,
        maximum_replicas=3,
        settings=SETTINGS,
    )


@pytest.mark.parametrize(("replicas", "load"), [(1, 0.4), (2, 0.7), (3, 0.8)])
def test_it_says_what_the_planner_predicts(made: Attainment, replicas: int, load: float) -> None:
    rate = load * replicas * made.capacity_per_second
    workload = Workload(rate_per_second=rate, input_tokens_p50=16, input_tokens_p99=48)
    evaluator = Evaluator(
        workload=workload, percentile=99, algorithm=Algorithm.LEAST_CONNECTIONS, settings=SETTINGS, seed=1
    )
    prepared = Prepared(candidate=CANDIDATE, times=service_times(CANDIDATE.profile), accuracy=None)
    choice = Choice(batch_size=4, delay_seconds=0.0, replicas=replicas)
    predicted = evaluator.predict(prepared, choice)
    at_p99 = made.share_within(replicas=replicas, rate_per_second=rate)
    # The share within the budget, turned into the budget at which the share would be 99 %.
    found = np.interp(0.99, _shares_over_budgets(made, replicas, load), 80.0 * np.array(made.budgets))
    assert found == pytest.approx(predicted.latency_ms, rel=0.08)
    assert (at_p99 >= 0.99) == (predicted.latency_ms <= 80.0)
    expected = made.expected_compute_seconds(replicas=replicas, rate_per_second=rate)
    assert 1000 * expected == pytest.approx(predicted.compute.mean_ms, rel=0.03)


def _shares_over_budgets(made: Attainment, replicas: int, load: float) -> list[float]:
    rows = np.array(made.share[replicas - 1])
    return [float(np.interp(load, made.loads, rows[:, i])) for i in range(len(made.budgets))]


def test_a_service_twice_as_slow_carries_half_the_rate_within_twice_the_budget(made: Attainment) -> None:
    fast = made.share_within(replicas=2, rate_per_second=40.0)
    assert made.share_within(replicas=2, rate_per_second=20.0, slowness=2.0) <= fast
    assert made.share_within(replicas=2, rate_per_second=80.0, slowness=0.5) >= fast


@few
@given(rates, rates, st.integers(1, 10), slow)
def test_more_traffic_is_never_better(one: float, other: float, replicas: int, slowness: float) -> None:
    low, high = sorted((one, other))
    shares = [table().share_within(replicas=replicas, rate_per_second=rate, slowness=slowness) for rate in (low, high)]
    assert 1 >= shares[0] >= shares[1] >= 0


@few
@given(rates, slow, st.floats(0.5, 0.999))
def test_the_replicas_it_names_suffice_and_one_less_does_not(rate: float, slowness: float, goal: float) -> None:
    known = table()
    replicas = known.replicas_for(rate_per_second=rate, goal=goal, slowness=slowness)
    counts = range(1, known.maximum_replicas + 1) if replicas is None else range(1, replicas)
    for count in counts:
        assert known.share_within(replicas=count, rate_per_second=rate, slowness=slowness) < goal
    if replicas is not None:
        assert known.share_within(replicas=replicas, rate_per_second=rate, slowness=slowness) >= goal


def test_beyond_the_last_load_nothing_is_promised() -> None:
    assert table().share_within(replicas=1, rate_per_second=20.0) == 0.0
    assert table().replicas_for(rate_per_second=1000.0, goal=0.5) is None


def test_a_table_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity_per_second"):
        Attainment(capacity_per_second=0.0, sizes=(), loads=(0, 1), budgets=(0.5, 1), share=(), compute_seconds=())
    known = table(maximum_replicas=2)
    with pytest.raises(ValueError, match="sizes must begin with 1"):
        replace(known, sizes=(2, 3))
    with pytest.raises(ValueError, match="one row of share"):
        replace(known, sizes=(1,))


@given(maximum=st.integers(1, 1000))
def test_many_replicas_are_few_simulations(maximum: int) -> None:
    counted = sizes(maximum)
    assert (counted[0], counted[-1]) == (1, maximum)
    assert all(a < b <= max(a + 1, math.ceil(1.25 * a)) for a, b in itertools.pairwise(counted))
    assert len(counted) <= 35


def test_between_two_sizes_the_smaller_ones_row_counts() -> None:
    known = table(maximum_replicas=4)
    sparse = replace(
        known,
        sizes=(1, 2, 4),
        share=(*known.share[:2], known.share[3]),
        compute_seconds=(*known.compute_seconds[:2], known.compute_seconds[3]),
    )
    for rate in (10.0, 40.0, 55.0):
        assert sparse.share_within(replicas=3, rate_per_second=rate) == known.share_within(
            replicas=3, rate_per_second=rate
        )
    assert sparse.maximum_replicas == 4


def test_two_workers_of_a_replica_are_as_two_replicas(made: Attainment) -> None:
    both = tabulate(
        times=service_times(CANDIDATE.profile),
        hardware=HardwareOption(name="cpu-small", cost_per_hour=0.02),
        workload=WORKLOAD,
        budget_milliseconds=80.0,
        batch_size=4,
        delay_milliseconds=0.0,
        maximum_replicas=1,
        workers=2,
        settings=SETTINGS,
    )
    assert both.capacity_per_second == pytest.approx(2 * made.capacity_per_second)
    assert both.share[0] == made.share[1]
