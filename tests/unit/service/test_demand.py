"""Which rate is planned for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cycleops.api.traffic import Traffic
from cycleops.service.demand import planned_rate
from cycleops.service.histograms import Measured


def traffic(basis: str) -> Traffic:
    return Traffic.model_validate({"requestsPerSecond": 20, "basis": basis})


def measured(rate: float, window: float = 60.0) -> Measured:
    requests = max(1, round(rate * window))
    return Measured(
        terms={}, requests=requests, requests_per_second=rate, errors=0, hits=0, window_seconds=window, ended_at=0
    )


@pytest.mark.parametrize(
    ("basis", "rate", "planned", "expected"),
    [
        ("Declared", 200, 31.25, 20),
        ("Maximum", None, None, 20),
        ("Maximum", None, 31.25, 31.25),  # no news is not no traffic
        ("Maximum", 21.5, None, 20),  # chance
        ("Maximum", 28, None, 31.25),  # two steps up
        ("Maximum", 28, 31.25, 31.25),  # and it stays
        ("Maximum", 26, 31.25, 31.25),  # inside the band
        ("Maximum", 5, 31.25, 20),  # never below what is declared
        ("Measured", 5, 20, 6.5536),  # one step above 5 and its scatter
        ("Measured", None, None, 20),  # until something is measured
    ],
)
def test_the_rate(basis: str, rate: float | None, planned: float | None, expected: float) -> None:
    window = measured(rate) if rate is not None else None
    assert planned_rate(traffic=traffic(basis), measured=window, planned=planned) == pytest.approx(expected)


@given(st.sampled_from(["Declared", "Measured", "Maximum"]), st.floats(0.1, 500), st.floats(0.1, 500))
def test_the_same_numbers_give_the_same_answer_again(basis: str, rate: float, planned: float) -> None:
    once = planned_rate(traffic=traffic(basis), measured=measured(rate), planned=planned)
    assert planned_rate(traffic=traffic(basis), measured=measured(rate), planned=once) == once
