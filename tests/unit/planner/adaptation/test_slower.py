"""A plan by a measured slowness: when it begins, when it ends, and what it does to a profile."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cycleops.planner.adaptation.correction import Correction
from cycleops.planner.adaptation.slower import planned_slowness, slower
from cycleops.planner.service_time import service_times
from tests.unit.planner.profiles import candidate


def known(slowness: float, deviation: float = 0.02) -> Correction:
    return Correction(log_slowness=math.log(slowness), variance=deviation**2)


@pytest.mark.parametrize(
    ("before", "correction", "expected"),
    [
        (1.0, known(1.2), 1.0),  # within what a profile may be off
        (1.0, known(1.4), 1.4071),  # the nearest step
        (1.0, known(1.4, deviation=0.1), 1.0),  # not surely
        (1.0, known(0.5), 1.0),  # faster is never counted on
        (1.4071, known(1.45), 1.4071),  # not far enough
        (1.4071, known(1.7), 1.7103),
        (1.4071, known(1.28, deviation=0.05), 1.4071),
        (1.4071, known(1.05), 1.0),  # surely over
    ],
)
def test_when_plans_count_it(before: float, correction: Correction, expected: float) -> None:
    assert planned_slowness(before, correction) == pytest.approx(expected, abs=1e-3)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(1.0, 2.4), st.floats(0.5, 2.4), st.floats(0.005, 0.3))
def test_the_same_evidence_gives_the_same_again(before: float, slowness: float, deviation: float) -> None:
    once = planned_slowness(before, known(slowness, deviation))
    assert planned_slowness(once, known(slowness, deviation)) == once


def test_only_compute_is_longer() -> None:
    profile = candidate(base_seconds=0.02).profile
    times, stretched = service_times(profile), service_times(slower(profile, 1.4071))
    assert stretched.compute / times.compute == pytest.approx(1.4071, rel=0.011)
    assert stretched.pre == pytest.approx(times.pre)
    assert stretched.overhead == pytest.approx(times.overhead)
    assert slower(profile, 1.0) is profile
