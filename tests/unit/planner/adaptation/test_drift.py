"""The detectors: find what matters, and raise false alarms as often as they say."""

import numpy as np
import pytest

from cycleops.planner.adaptation.drift import MATTERS, Level, follow, shift, shifted, threshold_for

LENGTHS = np.array([0.05, 0.15, 0.3, 0.3, 0.15, 0.05])


def counts(shares: np.ndarray, requests: int, seed: int) -> list[int]:
    drawn: list[int] = np.random.default_rng(seed).multinomial(requests, shares).tolist()
    return drawn


def test_without_a_shift_false_alarms_are_as_rare_as_stated() -> None:
    """Windows so small that chance is above MATTERS and the statistics decide."""
    found = 0
    for seed in range(3000):
        found += shift(counts(LENGTHS, 5000, seed), counts(LENGTHS, 120, 10_000 + seed), false_alarms=0.01).found
    assert found <= 0.02 * 3000


def test_longer_inputs_are_found_and_a_trifle_is_not() -> None:
    reference = counts(LENGTHS, 20_000, 1)
    longer = np.array([0.02, 0.08, 0.2, 0.3, 0.25, 0.15])
    assert shift(reference, counts(longer, 2000, 2)).found
    trifle = LENGTHS + np.array([0.01, 0, 0, 0, 0, -0.01])
    small = shift(reference, counts(trifle, 1_000_000, 3))
    assert small.index > 0
    assert small.threshold == MATTERS
    assert not small.found


def test_a_label_that_never_came_before_is_a_shift_and_no_error() -> None:
    assert shift([500, 500, 0], [300, 300, 400]).found


def test_a_few_requests_prove_nothing() -> None:
    assert not shift(counts(LENGTHS, 5000, 1), [0, 0, 0, 1, 1, 0]).found


@pytest.mark.parametrize(
    ("reference", "window", "message"),
    [([1, 2], [1, 2, 3], "buckets"), ([5, 0], [5, 0], "two buckets"), ([0, 0], [1, 2], "some"), ([1, -1], [1, 1], "0")],
)
def test_what_can_not_be_compared_is_refused(reference: list[int], window: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shift(reference, window)


def run_length(threshold: float, stream: np.random.Generator) -> int:
    level, windows = Level(), 0
    while shifted(level, threshold=threshold) is None:
        level = follow(level, deviation=float(stream.standard_normal()))
        windows += 1
    return windows


def test_the_mean_time_to_a_false_alarm_is_the_one_asked_for() -> None:
    stream, threshold = np.random.default_rng(4), threshold_for(windows=200)
    lengths = [run_length(threshold, stream) for _ in range(300)]
    assert np.mean(lengths) == pytest.approx(200, rel=0.2)


def test_a_shift_of_two_deviations_is_found_within_ten_windows_and_its_side_told() -> None:
    threshold = threshold_for(windows=10_000)
    for mean, side in ((2.0, "up"), (-2.0, "down")):
        level, stream = Level(), np.random.default_rng(5)
        for _ in range(10):
            level = follow(level, deviation=mean + float(stream.standard_normal()))
        assert shifted(level, threshold=threshold) == side


def test_more_patience_needs_a_higher_threshold() -> None:
    assert threshold_for(windows=100) < threshold_for(windows=1000) < threshold_for(windows=1_000_000)
    with pytest.raises(ValueError, match="windows"):
        threshold_for(windows=2)
