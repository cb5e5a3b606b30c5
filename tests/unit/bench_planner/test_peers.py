"""The peers follow their published algorithms: cases worked out by hand."""

import numpy as np
import pytest

from bench.planner.peers import HpaOnCpu, Limits, LlmdLaw, Policy, Seen
from bench.planner.replay import BINS, FIRST_BIN_SECONDS, GROWTH, WindowCounts


def seen(now: float, *, ready: int, ordered: int, busy: float = 0.0, p90: float = 0.0) -> Seen:
    """``busy``: share of the time in which each ready pod computed. ``p90``: seconds."""
    histogram = np.zeros(BINS, dtype=np.int64)
    if p90:
        histogram[int(np.log(p90 / FIRST_BIN_SECONDS) / np.log(GROWTH))] = 100
    window = WindowCounts(
        arrivals=100, answered=100, within=100, shed=0, started=100, compute_seconds=1.0,
        busy_seconds=15.0 * ready * busy, histogram=histogram,
    )  # fmt: skip
    return Seen(now=now, seconds=15.0, window=window, ready=ready, ordered=ordered)


def play(policy: Policy, *steps: Seen) -> list[int]:
    return [policy.decide(step) for step in steps]


def test_hpa_scales_by_the_ratio_and_not_within_its_tolerance() -> None:
    assert play(HpaOnCpu(target=0.5), seen(15, ready=4, ordered=4, busy=0.75)) == [6]  # ceil(4 x 1.5)
    assert play(HpaOnCpu(target=0.5), seen(15, ready=4, ordered=4, busy=0.54)) == [4]
    assert play(HpaOnCpu(target=0.5), seen(15, ready=4, ordered=4, busy=0.56)) == [5]


def test_hpa_counts_pods_that_are_not_ready_as_idle_when_scaling_up() -> None:
    assert play(HpaOnCpu(target=0.5), seen(15, ready=2, ordered=4, busy=1.0)) == [4]  # 2 x 1.0 over 4 pods is 0.5
    assert play(HpaOnCpu(target=0.25), seen(15, ready=2, ordered=4, busy=1.0)) == [8]


def test_hpa_goes_down_only_to_the_most_that_five_minutes_asked_for() -> None:
    policy = HpaOnCpu(target=0.5)
    play(policy, seen(0, ready=8, ordered=8, busy=0.5))
    wishes = play(policy, *(seen(15.0 * i, ready=8, ordered=8, busy=0.125) for i in range(1, 23)))
    assert wishes[:20] == [8] * 20
    assert wishes[-1] == 2


def test_hpa_at_most_doubles_or_adds_four_in_fifteen_seconds() -> None:
    assert Limits().apply(15.0, 2, 50) == 6
    assert Limits().apply(15.0, 10, 50) == 20


def test_llmd_goes_up_by_the_clamped_ratio_and_down_one_pod_at_a_time() -> None:
    def law() -> LlmdLaw:
        return LlmdLaw(budget_seconds=0.4, limits=Limits(down_window_seconds=0, down_pods=1, down_period_seconds=120))

    assert play(law(), seen(60, ready=2, ordered=2, p90=0.32)) == [3]  # 0.8 / 0.55: 2 + ceil(2 x 0.45)
    assert play(law(), seen(60, ready=2, ordered=2, p90=40.0)) == [6]  # clamped to 2: asks for 8, 4 more at most
    assert play(law(), seen(60, ready=4, ordered=4, p90=0.2)) == [4]  # between the thresholds
    assert play(law(), seen(60, ready=4, ordered=4, p90=0.04)) == [3]  # asks for 1, one pod in two minutes


def test_llmd_credits_pods_that_warm_up() -> None:
    law = LlmdLaw(budget_seconds=0.4)
    assert play(law, seen(60, ready=2, ordered=4, p90=0.4)) == [4]  # 1.0 x 2 / 4 is below 0.55


def test_llmd_waits_thirty_seconds_before_it_goes_up() -> None:
    law = LlmdLaw(budget_seconds=0.4)
    calm = [seen(15.0 * i, ready=2, ordered=2, p90=0.2) for i in range(1, 5)]
    busy = [seen(60 + 15.0 * i, ready=2, ordered=2, p90=0.6) for i in range(1, 6)]
    wishes = play(law, *calm, *busy)
    assert wishes[:6] == [2] * 6
    assert wishes[-1] > 2


@pytest.mark.parametrize("policy", [HpaOnCpu(target=0.5), LlmdLaw(budget_seconds=0.4)])
def test_without_any_request_nobody_fails(policy: Policy) -> None:
    assert policy.decide(seen(60, ready=0, ordered=3)) >= 1
