"""The slowness filter: finds what is true, says how sure it is, and is not moved by one bad window."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cycleops.planner.adaptation.correction import BELIEVE_AFTER, BOUND, Correction, correct

few = settings(max_examples=40, deadline=None, derandomize=True)


def measured(slowness: float, *, windows: int, seed: int = 0, start: Correction | None = None) -> Correction:
    """Windows of 200 requests with a noise of 3 %."""
    stream, state = np.random.default_rng(seed), start or Correction()
    for _ in range(windows):
        ratio = slowness * math.exp(0.03 * stream.standard_normal())
        state = correct(state, ratio=ratio, requests=200, elapsed_seconds=15.0)
    return state


@few
@given(st.floats(0.5, 2.0), st.integers(0, 1000))
def test_it_finds_the_true_slowness_within_its_own_error(slowness: float, seed: int) -> None:
    state = measured(slowness, windows=60, seed=seed)
    low, high = state.interval(4.0)
    assert low <= slowness <= high
    assert state.slowness == pytest.approx(slowness, rel=0.05)


def test_it_gets_surer_with_every_window_and_less_sure_without() -> None:
    before = Correction()
    after = measured(1.0, windows=20)
    unseen = correct(after, ratio=1.0, requests=0, elapsed_seconds=3600.0)
    assert after.deviation < before.deviation / 4
    assert unseen.slowness == after.slowness
    assert unseen.deviation > after.deviation


def test_one_wild_window_changes_nothing() -> None:
    state = measured(1.1, windows=40)
    after = correct(state, ratio=8.0, requests=500, elapsed_seconds=15.0)
    assert after.slowness == state.slowness
    assert after.gated == 1


def test_a_shift_is_believed_when_it_stays() -> None:
    state = measured(1.3, windows=BELIEVE_AFTER + 5, start=measured(1.0, windows=100))
    assert state.slowness == pytest.approx(1.3, rel=0.04)


def test_wild_windows_on_both_sides_are_never_believed() -> None:
    state = measured(1.0, windows=40)
    for i in range(20):
        state = correct(state, ratio=6.0 if i % 2 else 1 / 6, requests=500, elapsed_seconds=15.0)
    assert state.slowness == pytest.approx(1.0, abs=0.05)


def test_a_profile_that_is_far_off_is_called_stale() -> None:
    assert measured(1.6, windows=60).profile_is_stale
    assert measured(0.6, windows=60).profile_is_stale
    assert not measured(1.1, windows=60).profile_is_stale
    assert not Correction().profile_is_stale  # nothing measured is no evidence


@few
@given(st.lists(st.tuples(st.floats(1e-6, 1e6), st.integers(0, 10**6)), max_size=40))
def test_it_stays_within_its_bounds_whatever_is_measured(windows: list[tuple[float, int]]) -> None:
    state = Correction()
    for ratio, requests in windows:
        state = correct(state, ratio=ratio, requests=requests, elapsed_seconds=15.0)
    assert 1 / BOUND <= state.slowness <= BOUND * (1 + 1e-12)
    assert 0 < state.variance <= 1
    assert Correction.model_validate_json(state.model_dump_json()) == state


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.nan, math.inf])
def test_a_ratio_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        correct(Correction(), ratio=ratio, requests=10, elapsed_seconds=15.0)
