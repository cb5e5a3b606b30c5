"""What a user would notice: answers are late though rate and compute are as expected, and replicas come."""

import math

from cycleops.planner.adaptation import Decision, State, adapt
from cycleops.planner.adaptation.contention import BELIEVE_AFTER, BOUND, Contention, contend
from tests.unit.planner.adaptation.tables import SETTINGS, TARGET, begin, table, window


def fed(
    state: State, *, windows: int, rate: float, late_share: float, ready: int | None = None
) -> tuple[State, Decision]:
    """Windows of 15 s at one rate, compute as profiled; the last decision."""
    for _ in range(windows):
        now = (state.measured_at or 0.0) + 15.0
        seen = window(
            ended_at=now, rate=rate, ready=state.replicas if ready is None else ready, late=int(late_share * rate * 15)
        )
        state, decision = adapt(state, seen, now, attainment=table(), target=TARGET, settings=SETTINGS)
    return state, decision


def test_lateness_that_stays_gets_replicas_though_the_table_says_that_all_is_well() -> None:
    state, before = fed(begin(4), windows=40, rate=60.0, late_share=0.0)
    state, _ = fed(state, windows=BELIEVE_AFTER - 1, rate=60.0, late_share=0.3)
    assert state.contention.factor == 1
    state, decision = fed(state, windows=1, rate=60.0, late_share=0.3)
    assert state.contention.factor > 1.02
    assert decision.replicas > before.replicas
    assert f"the rate counts {state.contention.factor:.2f} times" in decision.message


def test_pods_that_still_start_and_a_rate_that_jumps_prove_nothing() -> None:
    state, _ = fed(begin(4), windows=40, rate=60.0, late_share=0.0)
    starting, _ = fed(state, windows=10, rate=60.0, late_share=0.3, ready=1)
    assert starting.contention == Contention()
    for rate in (60.0, 20.0, 60.0, 20.0, 60.0, 20.0):
        state, _ = fed(state, windows=1, rate=rate, late_share=0.3)
    assert state.contention.factor == 1


def test_an_idle_service_whose_answers_are_late_gets_no_replicas_that_would_not_help() -> None:
    state, _ = fed(begin(1), windows=40, rate=4.0, late_share=0.0)
    state, decision = fed(state, windows=40, rate=4.0, late_share=0.3)
    assert decision.replicas <= 2
    assert state.contention.factor <= BOUND


def test_it_is_taken_back_when_answers_are_in_time_again() -> None:
    def late_share_at(factor: float) -> float:
        return min(max(factor - 1.0, 0.001), 1.0)

    contended = Contention(factor=2.0, windows=9)
    for _ in range(12):
        contended = contend(
            contended, requests=1000, late=1, allowed=0.01, elapsed_seconds=15.0, late_share_at=late_share_at
        )
    assert contended.windows == 0
    assert contended.factor < 1.02


def test_time_forgets_it_where_windows_say_nothing() -> None:
    contended = Contention(factor=2.0)
    for _ in range(240):  # an hour
        contended = contend(
            contended, requests=1000, late=0, allowed=0.01, elapsed_seconds=15.0, late_share_at=lambda _: 0.0
        )
    assert math.isclose(contended.factor, 2.0 ** math.exp(-1), rel_tol=1e-9)
