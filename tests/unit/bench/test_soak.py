"""bench/soak's rule on whether memory is flat."""

import random

import pytest

from bench.soak.verdict import judge, theil_sen

MINUTES = [60.0 * minute for minute in range(1, 61)]


def memory(*, per_hour: float, noise: float, first: float = 600.0, warm_up: float = 0.0) -> list[float]:
    """MiB by the minute, with what comes in the first quarter of an hour."""
    draws = random.Random(1)
    return [first + warm_up * min(at / 900, 1) + per_hour * at / 3600 + draws.uniform(-noise, noise) for at in MINUTES]


@pytest.mark.parametrize(
    ("per_hour", "noise", "word"),
    [(0.0, 2.0, "flat"), (3.0, 0.5, "flat"), (-5.0, 3.0, "flat"), (20.0, 2.0, "growing"), (6.0, 60.0, "undecided")],
)
def test_what_is_flat_grows_or_cannot_be_told(per_hour: float, noise: float, word: str) -> None:
    assert judge(MINUTES, memory(per_hour=per_hour, noise=noise)).word == word


def test_the_first_half_does_not_count() -> None:
    assert judge(MINUTES, memory(per_hour=0.0, noise=1.0, warm_up=500.0)).word == "flat"


def test_one_row_that_is_off_changes_nothing() -> None:
    rows = memory(per_hour=0.0, noise=0.5)
    rows[-1] += 300
    assert judge(MINUTES, rows).word == "flat"


def test_a_small_process_may_grow_by_a_few_mebibytes() -> None:
    verdict = judge(MINUTES, memory(per_hour=2.0, noise=0.0, first=50.0))
    assert (verdict.word, verdict.limit) == ("flat", 4.0)
    assert "+2.0 MiB an hour" in str(verdict)


def test_too_few_rows_say_nothing() -> None:
    assert judge(MINUTES[:10], [1.0] * 10).word == "undecided"
    assert judge([], []).word == "undecided"


def test_the_slope_of_a_line_is_its_own() -> None:
    slope = theil_sen([0.0, 1.0, 2.0, 4.0], [1.0, 3.0, 5.0, 9.0])
    assert slope.lower == slope.middle == slope.upper == 2.0
