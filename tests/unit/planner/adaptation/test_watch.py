"""Profiles are called stale when what arrives is not what they were made for, and not otherwise."""

import numpy as np
import pytest

from cycleops.planner.adaptation import State, adapt
from cycleops.planner.adaptation.forecast import DAY_SECONDS
from tests.unit.planner.adaptation.tables import SETTINGS, TARGET, begin, table, window

USUAL = np.array([0.1, 0.3, 0.4, 0.2])
LONGER = np.array([0.02, 0.1, 0.4, 0.48])


def fed(state: State, shares: np.ndarray, windows: int, *, seed: int, kind: str = "lengths") -> State:
    stream = np.random.default_rng(seed)
    for _ in range(windows):
        now = (state.measured_at or 0.0) + 15.0
        seen = window(ended_at=now, rate=40.0, ready=state.replicas)
        seen = seen.model_copy(update={kind: tuple(stream.multinomial(600, shares).tolist())})
        state, decision = adapt(state, seen, now, attainment=table(), target=TARGET, settings=SETTINGS)
        assert decision.profile_stale == state.watch.findings
    return state


@pytest.mark.parametrize("kind", ["lengths", "labels"])
def test_a_shift_is_found_named_and_taken_back_when_it_is_over(kind: str) -> None:
    state = fed(begin(3), USUAL, 60, seed=1, kind=kind)
    assert state.watch.findings == ()
    state = fed(state, LONGER, 8, seed=2, kind=kind)
    [finding] = state.watch.findings
    assert kind in finding
    assert "stability index" in finding
    assert fed(state, USUAL, 8, seed=3, kind=kind).watch.findings == ()


def test_buckets_must_stay_the_same() -> None:
    state = fed(begin(3), USUAL, 1, seed=1)
    with pytest.raises(ValueError, match="input lengths: 3 buckets, 4 before"):
        fed(state, np.array([0.2, 0.3, 0.5]), 1, seed=1)


def days(rates: list[float]) -> State:
    """A day each with this mean rate, in windows of five minutes, low at night; days differ by a few per cent."""
    state, stream = begin(5), np.random.default_rng(7)
    for day, mean in enumerate(rates):
        for start in np.arange(0, DAY_SECONDS, 300.0):
            now = day * DAY_SECONDS + start + 300.0
            rate = mean * (1 - 0.5 * np.cos(2 * np.pi * start / DAY_SECONDS)) * (1 + 0.05 * stream.standard_normal())
            seen = window(ended_at=now, rate=float(rate), ready=state.replicas, seconds=300.0)
            state, _ = adapt(state, seen, now, attainment=table(), target=TARGET, settings=SETTINGS)
    return state


def test_a_day_like_the_others_is_no_shift_and_one_twice_as_busy_is() -> None:
    assert days([40.0, 42.0, 39.0]).watch.findings == ()
    [finding] = days([40.0, 40.0, 80.0]).watch.findings
    assert "shifted up" in finding
