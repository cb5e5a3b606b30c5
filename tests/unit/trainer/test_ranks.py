"""Which of a worker's ranks failed, when several did."""

import pytest

from cycle_trainer.ranks import cause


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([0, 0], 0),
        ([None, 3], 3),
        ([1, 3], 1),
        ([1, -9], 137),  # a killed rank's neighbour fails by itself, and may stand before it
        ([-9, 1], 137),
        ([None, -6], 134),
        ([None, None], 0),
        ([-15, -9], 137),  # torchrun ends the neighbours of a rank that failed, and tells them with it
        ([-9, -15], 137),
        ([-15, 3], 3),
        ([143, 3], 3),
        ([-15], 143),
    ],
)
def test_the_first_cause_is_told(codes: list[int | None], expected: int) -> None:
    assert cause(codes) == expected
