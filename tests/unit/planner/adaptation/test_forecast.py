"""The rate ahead: covers what comes as often as it says, follows jumps at once, learns the day."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cycleops.planner.adaptation.forecast import DAY_SECONDS, Rate, observe

few = settings(max_examples=40, deadline=None, derandomize=True)
WINDOW = 15.0


def fed(rates: list[float], *, seed: int = 0, start: Rate | None = None, window: float = WINDOW) -> Rate:
    """Poisson counts of these rates, one window each."""
    stream, state = np.random.default_rng(seed), start or Rate()
    for rate in rates:
        state = observe(
            state,
            arrivals=int(stream.poisson(rate * window)),
            window_seconds=window,
            ended_at=state.ended_at + window,
        )
    return state


def test_a_steady_rate_is_covered_as_often_as_the_interval_says() -> None:
    inside = 0
    for seed in range(200):
        state = fed([40.0] * 40, seed=seed)
        inside += abs(state.mean(ahead_seconds=45) - 40) <= 1.96 * state.deviation(ahead_seconds=45)
    assert inside >= 0.93 * 200  # at least what it promises, within the error of 200 trials


def test_the_interval_is_not_useless() -> None:
    state = fed([40.0] * 100)
    assert state.deviation(ahead_seconds=45) < 0.08 * 40


def test_with_little_history_it_is_less_sure() -> None:
    assert fed([40.0]).deviation(ahead_seconds=45) > 1.5 * fed([40.0] * 50).deviation(ahead_seconds=45)
    assert fed([40.0] * 2).deviation(ahead_seconds=0) > fed([40.0] * 20).deviation(ahead_seconds=0)


def test_further_ahead_is_less_sure() -> None:
    state = fed([40.0] * 30)
    spreads = [state.deviation(ahead_seconds=seconds) for seconds in (0, 15, 60, 300)]
    assert spreads == sorted(spreads)


def test_a_ramp_is_seen_coming() -> None:
    state = fed([20 + 0.4 * i for i in range(120)])  # 1.6 requests/s more every minute
    now = 20 + 0.4 * 120
    assert state.mean(ahead_seconds=60) == pytest.approx(now + 1.6, rel=0.06)
    assert state.mean(ahead_seconds=60) > state.level


def test_a_jump_is_followed_at_once_and_may_go_on() -> None:
    before = fed([20.0] * 60)
    after = fed([60.0], start=before)
    assert after.level == pytest.approx(60, rel=0.1)
    assert after.upper(ahead_seconds=45, deviations=1) > 1.5 * 60  # a ramp would go on like this
    settled = fed([60.0] * 12, start=after)
    assert settled.upper(ahead_seconds=45, deviations=1) < 1.25 * 60


def test_a_single_noisy_window_is_no_jump() -> None:
    before = fed([40.0] * 60)
    after = observe(before, arrivals=int(40 * WINDOW + 2 * math.sqrt(40 * WINDOW)), window_seconds=WINDOW,
                    ended_at=before.ended_at + WINDOW)  # fmt: skip
    assert after.level < 42.5


def test_after_a_day_the_time_of_day_counts() -> None:
    def rate(time: float) -> float:
        return 60.0 if 8 <= time % DAY_SECONDS / 3600 < 20 else 10.0

    window = 300.0
    times = np.arange(0, 1.3 * DAY_SECONDS, window)  # the second morning, 07:12
    state = fed([rate(time) for time in times], window=window)
    assert state.season.known
    assert state.mean(ahead_seconds=3600) > 2 * state.level
    first = fed([rate(time) for time in times if time < 0.3 * DAY_SECONDS], window=window)
    assert not first.season.known
    assert first.mean(ahead_seconds=3600) < 1.5 * first.level  # nothing is known of mornings yet


@few
@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=60), st.floats(0, 3600))
def test_whatever_arrives_the_numbers_are_numbers(counts: list[int], ahead: float) -> None:
    state = Rate()
    for count in counts:
        state = observe(state, arrivals=count, window_seconds=WINDOW, ended_at=state.ended_at + WINDOW)
    mean, spread = state.mean(ahead_seconds=ahead), state.deviation(ahead_seconds=ahead)
    assert 0 <= mean < math.inf
    assert 0 <= spread < math.inf
    assert state.upper(ahead_seconds=ahead, deviations=1) >= mean
    assert Rate.model_validate_json(state.model_dump_json()) == state


def test_windows_must_follow_each_other() -> None:
    state = fed([10.0])
    with pytest.raises(ValueError, match="ends at"):
        observe(state, arrivals=1, window_seconds=WINDOW, ended_at=state.ended_at)
    with pytest.raises(ValueError, match="window_seconds"):
        observe(state, arrivals=1, window_seconds=0.0, ended_at=state.ended_at + 1)
