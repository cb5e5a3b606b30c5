"""From profile rows to quantile functions."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from cycle_wire.profile import Pace
from cycleops.planner.histograms import LEVELS
from cycleops.planner.service_time import IncompleteProfileError, heaviness, service_times
from tests.unit.planner.profiles import compute_seconds, histogram, profile

BASE = 0.008


@pytest.mark.parametrize(("batch", "length"), [(1, 16), (4, 32), (16, 64), (3, 24), (12, 50)])
def test_between_rows_the_mean_is_that_of_the_law_behind_them(batch: int, length: int) -> None:
    """The synthetic law is linear in tokens, so interpolation must meet it but for sampling and buckets (3 %)."""
    times = service_times(profile())
    mean = times.mean_compute_seconds(batch_size=batch, lengths=np.array([float(length)]), heavy=0.0)[0]
    assert mean == pytest.approx(compute_seconds(BASE, batch, length), rel=0.03)
    assert times.residual < 0.01


def test_quantiles_keep_the_shape_of_their_rows() -> None:
    levels = service_times(profile(cv=0.3)).compute_quantiles(batch_size=2, lengths=np.array([24.0]), heavy=0.0)[0]
    assert levels.shape == (LEVELS,)
    assert levels.std() / levels.mean() == pytest.approx(0.3, rel=0.15)


def test_shorter_than_measured_costs_as_much_as_the_shortest() -> None:
    times = service_times(profile())
    short, shortest = times.mean_compute_seconds(batch_size=1, lengths=np.array([3.0, 16.0]), heavy=0.0)
    assert short == shortest


def test_longer_than_measured_goes_on_with_the_last_slope() -> None:
    times = service_times(profile())
    mean = times.mean_compute_seconds(batch_size=1, lengths=np.array([96.0]), heavy=0.0)[0]
    assert mean == pytest.approx(compute_seconds(BASE, 1, 96), rel=0.1)


def test_means_never_fall_with_length_or_batch() -> None:
    """A longer input that measured faster is noise."""
    rows = [
        row.model_copy(update={"compute": profile(base_seconds=BASE / 2).rows[i].compute})
        if row.sequence_length == 32
        else row
        for i, row in enumerate(profile().rows)
    ]
    times = service_times(profile().model_copy(update={"rows": rows}))
    means = times.compute.mean(axis=-1)
    assert (np.diff(means, axis=1) >= -1e-12).all()
    assert (np.diff(means, axis=2) >= -1e-12).all()


def test_heavy_load_goes_over_to_the_saturated_rows() -> None:
    slow = profile(base_seconds=2 * BASE)
    rows = [slow.rows[i] if row.pace is Pace.SATURATED else row for i, row in enumerate(profile().rows)]
    times = service_times(profile().model_copy(update={"rows": rows}))
    means = [times.mean_compute_seconds(batch_size=1, lengths=np.array([32.0]), heavy=h)[0] for h in (0.0, 0.5, 1.0)]
    assert means == pytest.approx([BASE, 1.5 * BASE, 2 * BASE], rel=0.03)
    assert [heaviness(u) for u in (0.2, 0.5, 0.75, 1.0, 3.0)] == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_a_missing_pace_is_taken_from_the_other() -> None:
    rows = [row for row in profile().rows if row.pace is Pace.PACED]
    times = service_times(profile().model_copy(update={"rows": rows}))
    np.testing.assert_array_equal(times.compute[0], times.compute[1])


def test_a_batch_size_with_a_hole_is_not_used() -> None:
    rows = [row for row in profile().rows if (row.batch_size, row.sequence_length) != (4, 32)]
    assert service_times(profile().model_copy(update={"rows": rows})).batch_sizes == (1, 2, 8, 16)


def test_a_profile_without_batch_one_is_refused() -> None:
    rows = [row for row in profile().rows if row.batch_size > 1]
    with pytest.raises(IncompleteProfileError, match="batch size 1"):
        service_times(profile().model_copy(update={"rows": rows}))


def test_the_tail_of_a_row_with_few_samples_comes_from_all_rows() -> None:
    """20 samples hold no 99th percentile; 15 such rows do. Within 10 % of the law behind them."""
    few = [
        row.model_copy(
            update={
                "compute": histogram(
                    compute_seconds(BASE, row.batch_size, row.sequence_length), cv=0.3, samples=20, seed=i
                )
            }
        )
        for i, row in enumerate(profile().rows)
    ]
    times = service_times(profile().model_copy(update={"rows": few}))
    sigma = math.sqrt(math.log1p(0.3**2))
    level = int(0.99 * LEVELS)
    expected = math.exp(NormalDist().inv_cdf((level + 0.5) / LEVELS) * sigma)
    ratios = times.compute[0, :, :, level] / np.median(times.compute[0], axis=-1)
    assert ratios.mean() == pytest.approx(expected, rel=0.1)
    assert ratios.std() < 0.1
