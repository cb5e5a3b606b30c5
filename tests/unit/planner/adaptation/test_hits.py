"""How far a cache is counted on: by the evidence, and not at all without."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cycleops.planner.adaptation.hits import BIN_SECONDS, LEAST_BINS, STEP, HitEvidence


def fed(ratios: list[float], *, requests: int = 1000, before: HitEvidence | None = None, at: int = 0) -> HitEvidence:
    """One bin of each ratio from bin ``at`` on, all of them over."""
    evidence = before or HitEvidence()
    for i, ratio in enumerate(ratios):
        evidence = evidence.seen(requests=requests, hits=round(ratio * requests), ended_at=(at + i) * BIN_SECONDS)
    return evidence.seen(requests=0, hits=0, ended_at=(at + len(ratios)) * BIN_SECONDS)


def test_without_enough_bins_nothing_is_counted() -> None:
    assert fed([0.9] * (LEAST_BINS - 1)).counted == 0.0
    assert fed([0.9] * LEAST_BINS).counted == pytest.approx(0.9)


def test_bins_with_few_requests_say_nothing() -> None:
    assert fed([0.9] * 12, requests=50).counted == 0.0


def test_the_bound_is_below_the_mean_by_what_the_bins_differ() -> None:
    steady, wild = fed([0.6] * 8), fed([0.5, 0.7] * 4)
    assert steady.ratio == pytest.approx(wild.ratio)
    assert wild.lower < steady.lower <= steady.ratio
    assert wild.counted <= wild.lower


def test_down_at_once_and_up_only_when_surely_higher() -> None:
    warm = fed([0.7] * 8)
    assert warm.counted == pytest.approx(0.7)
    assert warm.expected == pytest.approx(0.7)
    colder = fed([0.4] * 3, before=warm, at=8)
    assert colder.counted < 0.7
    slightly = fed([0.73] * 13, before=fed([0.69] * 8), at=8)
    assert slightly.counted == pytest.approx(0.65)  # 0.70 would be one step


def test_an_hour_without_requests_is_a_cold_cache() -> None:
    warm = fed([0.7] * 8)
    later = warm.seen(requests=500, hits=400, ended_at=8 * BIN_SECONDS + 2 * 3600)
    assert (later.counted, later.expected) == (0.0, 0.0)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(ratio=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
def test_the_truth_is_seldom_below_what_is_counted(ratio: float, seed: int) -> None:
    stream = np.random.default_rng(seed)
    evidence = fed([float(stream.binomial(1000, ratio)) / 1000 for _ in range(10)])
    assert evidence.counted <= ratio + 0.02  # 2 standard deviations of ten bins
    assert evidence.counted >= ratio - 0.05 - STEP


def test_it_survives_json() -> None:
    warm = fed([0.7] * 8)
    assert HitEvidence.model_validate_json(warm.model_dump_json()) == warm
