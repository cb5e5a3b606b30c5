"""Quantiles of many histograms at once are those of each alone, and of a pool those of all its times."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cycle_wire.profile import Histogram
from cycleops.planner.histograms import LEVELS, levels, quantiles

some = st.lists(st.floats(2e-6, 10.0), min_size=1, max_size=40).map(Histogram.of)


@given(st.lists(some, min_size=1, max_size=5), st.lists(st.floats(0.001, 1.0), min_size=1, max_size=4))
def test_each_has_its_own_quantiles(histograms: list[Histogram], shares: list[float]) -> None:
    found = quantiles(histograms, np.array(shares))
    expected = [[one.quantile_seconds(share) for share in shares] for one in histograms]
    np.testing.assert_allclose(found, expected)


@given(st.lists(some, min_size=1, max_size=5))
def test_a_pool_is_all_times_together(histograms: list[Histogram]) -> None:
    times = [t for one in histograms for t, n in zip(one.values_seconds(), one.counts, strict=True) for _ in range(n)]
    together = Histogram.of(times)
    expected = [together.quantile_seconds((i + 0.5) / LEVELS) for i in range(LEVELS)]
    np.testing.assert_allclose(levels(*histograms), expected)


def test_nothing_takes_no_time() -> None:
    assert levels(Histogram()) == pytest.approx(np.zeros(LEVELS))
