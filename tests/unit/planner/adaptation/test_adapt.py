"""What a user would notice: when replicas come and go, and what is said about it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cycleops.planner.adaptation import AdaptSettings, Decision, Measurement, Reason, State, adapt
from tests.unit.planner.adaptation.tables import SETTINGS, TARGET, begin, table, window

few = settings(max_examples=30, deadline=None, derandomize=True)


def step(state: State, measurement: Measurement | None, now: float) -> tuple[State, Decision]:
    return adapt(state, measurement, now, attainment=table(), target=TARGET, settings=SETTINGS)


def fed(state: State, rates: list[float], *, slowness: float = 1.0, late: int = 0) -> tuple[State, list[Decision]]:
    """A window of 15 s for each rate; every replica that was ordered is ready."""
    decisions, now = [], state.measured_at or 0.0
    for rate in rates:
        now += 15.0
        seen = window(ended_at=now, rate=rate, ready=state.replicas, slowness=slowness, late=late)
        state, decision = step(state, seen, now)
        decisions.append(decision)
    return state, decisions


def test_a_steady_rate_gets_the_fewest_replicas_that_hold_the_budget() -> None:
    state, decisions = fed(begin(10), [60.0] * 60)
    assert state.replicas == 4  # 60 requests/s are 0.75 of what 4 carry; of 3 they are all
    assert decisions[-1].reason is Reason.ENOUGH
    assert len({decision.replicas for decision in decisions[30:]}) == 1


def test_a_jump_gets_replicas_at_once_and_with_a_reason_in_numbers() -> None:
    state, _ = fed(begin(2), [20.0] * 40)
    _, [decision] = fed(state, [100.0])
    assert decision.replicas >= 6
    assert decision.reason is Reason.RATE_GROWS
    assert "instead of 2" in decision.message
    assert "requests/s" in decision.message


def test_replicas_that_warm_up_are_not_ordered_twice() -> None:
    state, _ = fed(begin(2), [20.0] * 40)
    state, _ = fed(state, [100.0] * 2)
    ordered = state.replicas
    for i in range(1, 6):
        at = (state.measured_at or 0.0) + 15.0
        seen = window(ended_at=at, rate=100.0, ready=2, late=1200)  # nothing is ready yet, everyone waits
        state, decision = step(state, seen, at)
        assert decision.replicas <= ordered, i


def test_nothing_goes_before_fewer_have_sufficed_for_the_hold() -> None:
    state, _ = fed(begin(6), [90.0] * 40)
    before = state.replicas
    state, decisions = fed(state, [30.0] * 40)
    kept = [decision for decision in decisions if decision.replicas == before]
    assert len(kept) * 15 >= SETTINGS.hold_seconds
    assert kept[-1].reason is Reason.HELD
    assert "would do" in kept[-1].message
    assert state.replicas == 2


def test_a_dip_takes_nothing_away() -> None:
    state, _ = fed(begin(5), [70.0] * 40)
    after, decisions = fed(state, [20.0] * 4 + [70.0] * 8)
    assert min(decision.replicas for decision in decisions) == state.replicas
    assert after.replicas >= state.replicas


def test_no_news_is_a_condition_and_never_the_minimum() -> None:
    state, _ = fed(begin(5), [70.0] * 40)
    for minutes in (2, 10, 600):
        state, decision = step(state, None, (state.measured_at or 0.0) + 60.0 * minutes)
        assert decision.stale
        assert decision.reason is Reason.STALE
        assert decision.replicas == state.replicas == 5
    assert "no measurement" in decision.message
    _, first = step(begin(7), None, 0.0)
    assert (first.replicas, first.stale) == (7, True)


def test_an_old_measurement_again_is_no_news() -> None:
    state, _ = fed(begin(3), [40.0] * 40)
    now = state.measured_at or 0.0
    seen = window(ended_at=now, rate=400.0, ready=3)
    again, decision = step(state, seen, now + 1)
    assert again == state
    assert decision.replicas == state.replicas


def test_a_slower_service_gets_more_replicas_and_a_stale_profile_is_named() -> None:
    as_profiled, _ = fed(begin(4), [60.0] * 60)
    state, decisions = fed(begin(4), [60.0] * 60, slowness=1.6)
    assert state.replicas > as_profiled.replicas
    assert "x what the profile says" in decisions[-1].profile_stale[0]
    assert "1.6" in decisions[-1].message
    assert state.correction.slowness == pytest.approx(1.6, rel=0.05)


def test_when_the_most_do_not_suffice_it_says_so() -> None:
    _, decisions = fed(begin(10), [400.0] * 10)
    assert decisions[-1].reason is Reason.AT_MAXIMUM
    assert decisions[-1].replicas == 10
    assert decisions[-1].needed is None


def test_after_costly_surges_that_recur_replicas_are_kept_for_the_next() -> None:
    state, _ = fed(begin(2), [20.0] * 40)
    for _ in range(2):
        state, _ = fed(state, [100.0] * 3, late=1400)
        state, decisions = fed(state, [20.0] * 40)
    assert decisions[-1].reason is Reason.SURGE_KEPT
    assert decisions[-1].replicas >= 5
    assert "surge" in decisions[-1].message


def test_what_is_declared_bounds_what_is_only_extrapolated() -> None:
    state, _ = fed(begin(2), [20.0] * 40)
    _, [decision] = fed(state, [140.0])
    assert decision.forecast_per_second <= 1.3 * TARGET.declared_per_second


@few
@given(st.lists(st.tuples(st.floats(0, 2000), st.floats(0.2, 5), st.booleans()), max_size=40), st.integers(1, 10))
def test_whatever_is_measured_the_replicas_stay_within_the_limits(
    windows: list[tuple[float, float, bool]], replicas: int
) -> None:
    state, now = begin(replicas), 0.0
    for rate, slowness, there in windows:
        now += 15.0
        seen = window(ended_at=now, rate=rate, ready=state.replicas, slowness=slowness) if there else None
        before = state
        state, decision = step(state, seen, now)
        assert TARGET.minimum_replicas <= decision.replicas == state.replicas <= TARGET.maximum_replicas
        assert there or decision.replicas >= before.replicas or not decision.stale
        assert step(before, seen, now) == (state, decision)  # pure
        assert State.model_validate_json(state.model_dump_json()) == state


def test_the_state_is_small_enough_for_a_status() -> None:
    state, _ = fed(begin(3), [40.123] * 6000)  # more than a day
    assert len(json.dumps(state.model_dump(mode="json"))) < 3000


def test_what_makes_no_sense_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="late"):
        Measurement(ended_at=1, window_seconds=1, arrivals=1, answered=1, late=2, ready_replicas=1)
    with pytest.raises(ValueError, match="minimum_replicas"):
        TARGET.model_validate(TARGET.model_dump() | {"minimum_replicas": 11})
    with pytest.raises(ValueError, match="deviations"):
        AdaptSettings(deviations=-1)
