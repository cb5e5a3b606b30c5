"""Arrivals, balancers and shortcuts of the simulation, where theory has no closed form."""

from dataclasses import replace

import numpy as np
import pytest

from cycleops.planner import Budget, Candidate, HardwareOption, Limits, Pinned, Workload, plan
from cycleops.planner.choice import Choice, Prepared
from cycleops.planner.histograms import LEVELS
from cycleops.planner.model import Algorithm, Settings
from cycleops.planner.prepare import Problem
from cycleops.planner.queueing import percentile_of_misses
from cycleops.planner.rhythm import Bursts, Recorded
from cycleops.planner.service_time import service_times
from cycleops.planner.simulate import GivenUp, Outcome
from cycleops.planner.simulation import fleet_kernel, kernels
from cycleops.planner.simulation.arrivals import burst_gaps, gamma_gaps, recorded_gaps
from cycleops.service.haproxy import BOUNDED_LOAD_PERCENT
from tests.unit.planner.profiles import candidate
from tests.unit.planner.queues import exponential_levels, run

WORKLOAD = Workload(rate_per_second=100, input_tokens_p50=16, input_tokens_p99=48)
BUDGET = Budget(percentile=99, latency_milliseconds=60)
QUICK = Settings(requests=4_000)


def problem(**changes: object) -> Problem:
    base = Problem(
        workload=WORKLOAD,
        budget=BUDGET,
        candidates=(candidate("fp32"),),
        limits=Limits(maximum_replicas=8),
        algorithm=Algorithm.LEAST_CONNECTIONS,
        seed=0,
        pinned=Pinned(),
        settings=QUICK,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def prepared(one: Candidate) -> Prepared:
    return Prepared(candidate=one, times=service_times(one.profile), accuracy=None)


def test_gaps_have_the_variation_that_was_asked_for() -> None:
    gaps = gamma_gaps(stream=np.random.default_rng(0), count=400_000, cv2=4.0)
    assert gaps.mean() == pytest.approx(1.0)
    assert gaps.var() == pytest.approx(4.0, rel=0.05)


def test_bursts_are_as_dense_and_as_frequent_as_asked_for() -> None:
    """Counts in windows far longer than a burst: their index of dispersion is that of the two-state process."""
    ratio, share, burst = 5.0, 0.2, 50.0
    stream = np.random.default_rng(0)
    gaps = burst_gaps(stream=stream, count=3_000_000, rate_ratio=ratio, burst_share=share, burst_requests=burst)
    quiet = 1 / (1 - share + ratio * share)
    pause = burst * (1 - share) / share
    # Fischer and Meier-Hellstern: 1 + 2 p q (r1 - r2)^2 / ((s1 + s2) mean rate), with rates out of the two states s.
    expected = 1 + 2 * share * (1 - share) * ((ratio - 1) * quiet) ** 2 / (1 / burst + 1 / pause)
    counts = np.bincount((np.cumsum(gaps) / 5_000).astype(int))[:-1]
    assert counts.var() / counts.mean() == pytest.approx(expected, rel=0.15)


def test_a_recorded_trace_is_replayed_in_its_rhythm() -> None:
    np.testing.assert_allclose(recorded_gaps(gaps=[1.0, 3.0], count=4), [0.5, 1.5, 0.5, 1.5])
    with pytest.raises(ValueError, match="all 0"):
        recorded_gaps(gaps=[0.0], count=2)


def test_bursts_and_traces_need_more_than_a_smooth_rate() -> None:
    one = prepared(candidate("fp32"))
    choice = Choice(batch_size=4, delay_seconds=0.0, replicas=2)
    calm = Recorded(gaps_seconds=(1.0,))
    clumps = Recorded(gaps_seconds=(0.0,) * 19 + (20.0,))
    rhythms = (calm, None, Bursts(rate_ratio=8, time_share=0.1, mean_seconds=2.0), clumps)
    p99 = [
        problem(workload=replace(WORKLOAD, rhythm=rhythm)).evaluator().size(one, choice).p99_ms for rhythm in rhythms
    ]
    assert p99[0] < p99[1] < min(p99[2], p99[3])


def test_hashing_is_bounded() -> None:
    """Between blind spreading over uneven shares of the ring and the fewest connections."""
    waits = {
        algorithm: run(
            service=exponential_levels(1.0), rate=4 * 0.7, requests=200_000, replicas=4, algorithm=algorithm
        ).queue.mean()
        for algorithm in (Algorithm.LEAST_CONNECTIONS, Algorithm.CONSISTENT_HASH)
    }
    assert waits[Algorithm.LEAST_CONNECTIONS] < waits[Algorithm.CONSISTENT_HASH] < 0.7 / 0.3
    assert Settings().hash_load_percent == BOUNDED_LOAD_PERCENT


@pytest.mark.parametrize("served", [0, 1, 7, 100])
def test_slots_of_bounded_load_add_up(served: int) -> None:
    """By hand: all replicas together get 1.5 times the connections there will be, rounded up, and none gets 0."""
    slots = [kernels.hash_slots.py_func(r, 5, served, 150, 16) for r in range(5)]  # type: ignore[attr-defined]
    together = -(-(served + 1) * 3 // 2)
    assert sum(slots) >= together
    assert sum(slots) - together <= slots.count(1)
    assert max(slots) - min(slots) <= 16


def test_the_cache_makes_the_percentile_of_misses_harder() -> None:
    assert percentile_of_misses(percentile=99, hit_ratio=0.8) == pytest.approx(95)
    assert percentile_of_misses(percentile=90, hit_ratio=0.95) == 0


def test_replicas_are_counted_with_the_bound_and_the_prediction_is_of_what_was_measured() -> None:
    """At a hit ratio of 0.6, most requests are hits: p50 is that of the sidecar, and sizing is as with the bound."""
    sure = replace(WORKLOAD, rate_per_second=500, cache_hit_ratio_lower=0.3)
    measured = replace(sure, cache_hit_ratio=0.6)

    def ask(workload: Workload) -> object:
        return plan(
            workload=workload,
            budget=BUDGET,
            candidates=[candidate("fp32")],
            limits=Limits(maximum_replicas=20),
            settings=QUICK,
        ).plan

    by_bound, by_both = ask(sure), ask(measured)
    assert by_bound.replicas == by_both.replicas  # type: ignore[attr-defined]
    low, high = by_bound.predicted, by_both.predicted  # type: ignore[attr-defined]
    assert high.p50_ms == pytest.approx(2.0, rel=0.2)  # 1 ms of the sidecar, 1 ms of the balancer
    assert low.p50_ms > 5
    assert high.sized_at_ms == pytest.approx(low.sized_at_ms)
    assert high.high_ms >= low.high_ms
    assert (low.cache_hit_ratio, high.cache_hit_ratio) == (0.3, 0.6)


def test_shortcuts_of_the_search_change_no_answer() -> None:
    """What is given up is above the budget when simulated to the end; a batch never reached changes nothing."""
    here = problem(workload=replace(WORKLOAD, rate_per_second=260), budget=replace(BUDGET, latency_milliseconds=40))
    one = prepared(here.candidates[0])
    given_up = 0
    for size in (2, 4, 8, 16):
        for replicas in (1, 2, 3):
            choice = Choice(batch_size=size, delay_seconds=0.0, replicas=replicas)
            alone, quick = here.evaluator().size(one, choice), here.evaluator()
            found = quick.within(one, choice, latency_milliseconds=40)
            assert found == (alone if alone.sized_at_ms <= 40 else None)
            if not quick.evaluations:
                given_up += 1
                assert quick.within(one, choice, latency_milliseconds=39) is None
                assert quick.size(one, choice) == alone
            after_smaller = here.evaluator()
            for smaller in (2, 4, 8):
                after_smaller.size(one, replace(choice, batch_size=smaller))
            assert after_smaller.size(one, choice).sized_at_ms == alone.sized_at_ms
    assert given_up > 0


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_patience_is_over_exactly_when_too_many_are_late(algorithm: Algorithm) -> None:
    here = problem(workload=replace(WORKLOAD, rate_per_second=250), algorithm=algorithm)
    evaluator, one = here.evaluator(), prepared(here.candidates[0])
    for delay in (0.0, 0.02):
        choice = Choice(batch_size=4, delay_seconds=delay, replicas=2)
        fleet = evaluator.groups([(one, choice)])
        whole = evaluator.simulated(fleet)
        assert isinstance(whole, Outcome)
        value = 1000 * float(np.sort(whole.total)[int(0.99 * (len(whole.total) - 1))])
        assert isinstance(evaluator.tried(fleet, latency_milliseconds=value * 0.999), GivenUp)
        same = evaluator.tried(fleet, latency_milliseconds=value * 1.001)
        assert isinstance(same, Outcome)
        np.testing.assert_array_equal(same.total, whole.total)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_groups_that_are_alike_are_one_fleet(algorithm: Algorithm) -> None:
    """Two groups of one kind, with tables of their own, do what one group of as many replicas does."""
    here = problem(workload=replace(WORKLOAD, rate_per_second=250), algorithm=algorithm)
    evaluator, one = here.evaluator(), prepared(here.candidates[0])
    ((group, path),) = evaluator.groups([(one, Choice(batch_size=4, delay_seconds=0.01, replicas=3))])
    whole = evaluator.simulated([(group, path)])
    parts = evaluator.simulated([(replace(group, replicas=1), path), (replace(group, replicas=2), path)])
    assert isinstance(whole, Outcome)
    assert isinstance(parts, Outcome)
    np.testing.assert_allclose(parts.total, whole.total)
    assert sum(parts.shares) == pytest.approx(1)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_slow_replica_is_slow_for_those_it_serves(algorithm: Algorithm) -> None:
    """Each replica computes by its own table: alone in its fleet, and beside another kind."""
    here = problem(workload=replace(WORKLOAD, rate_per_second=40), algorithm=algorithm)
    fast, slow = (prepared(candidate("fp32", base_seconds=s, hardware=f"h{round(1000 * s)}")) for s in (0.004, 0.02))
    choice = Choice(batch_size=1, delay_seconds=0.0, replicas=2)
    evaluator = here.evaluator()
    means = {}
    for name, fleet in {"fast": [fast], "slow": [slow], "both": [fast, slow]}.items():
        outcome = evaluator.simulated(evaluator.groups([(one, choice) for one in fleet]))
        assert isinstance(outcome, Outcome)
        means[name] = outcome.compute.mean(), outcome.shares
    to_slow = means["both"][1][1]
    assert 0.1 < to_slow < 0.6  # of the ring, one has more
    expected = (1 - to_slow) * means["fast"][0] + to_slow * means["slow"][0]
    assert means["both"][0] == pytest.approx(expected, rel=0.05)


def test_a_cpu_limit_is_felt_under_load_only() -> None:
    """Half a core for one thread: the same at 5 requests/s, far above at 60 (a load of 0.96 of the quota)."""

    def p99(limit: float | None, rate: float) -> float:
        one = candidate("fp32")
        limited = replace(one, hardware=HardwareOption(name="cpu-small", cost_per_hour=0.02, cpu_limit_cores=limit))
        evaluator = problem(workload=replace(WORKLOAD, rate_per_second=rate)).evaluator()
        return evaluator.size(prepared(limited), Choice(batch_size=1, delay_seconds=0.0, replicas=1)).p99_ms

    assert p99(0.5, 5) == pytest.approx(p99(None, 5), rel=0.05)
    assert p99(0.5, 60) > 3 * p99(None, 60)


def test_inputs_beyond_the_measured_lengths_are_counted() -> None:
    wide = problem(workload=replace(WORKLOAD, input_tokens_p99=60))
    predicted = wide.evaluator().predict(
        prepared(wide.candidates[0]), Choice(batch_size=1, delay_seconds=0.0, replicas=2)
    )
    assert 0.001 < predicted.extrapolated_share < 0.02


def test_each_loop_is_compiled_for_one_kind_of_arguments() -> None:
    """The image compiles what precompile.py runs; another layout or type would be compiled in the pod."""
    for algorithm in Algorithm:
        run(service=np.ones(LEVELS), rate=1.0, requests=1_000, replicas=2, maximum_batch=2, algorithm=algorithm)
    for workload in (WORKLOAD, replace(WORKLOAD, rhythm=Recorded(gaps_seconds=(1.0, 2.0)))):
        plan(
            workload=workload,
            budget=BUDGET,
            candidates=[candidate("fp32")],
            limits=Limits(maximum_replicas=8),
            settings=QUICK,
        )
    for loop in (fleet_kernel.run_together, kernels.close_batches, kernels.starts_in_order):
        assert len(loop.signatures) <= 1  # type: ignore[attr-defined]
