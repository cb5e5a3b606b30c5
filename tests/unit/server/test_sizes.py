"""Which numbers of rows the engine computes."""

from hypothesis import given
from hypothesis import strategies as st

from cycle_server.engine.sizes import padded, sizes


@given(st.integers(1, 1_000_000))
def test_a_size_has_room_and_at_most_an_eighth_of_it_is_filler(rows: int) -> None:
    assert rows <= padded(rows) < rows * 9 / 8 or padded(rows) == rows
    assert padded(padded(rows)) == padded(rows)
    assert padded(rows) <= padded(rows + 1)


def test_what_is_short_has_no_filler_and_there_are_eight_sizes_in_a_doubling() -> None:
    assert [padded(rows) for rows in range(1, 17)] == list(range(1, 17))
    assert sizes(64) == [64, 60, 56, 52, 48, 44, 40, 36, *range(32, 16, -2), *range(16, 0, -1)]
    assert len(sizes(4096)) - len(sizes(2048)) == 8


@given(st.integers(1, 3000))
def test_all_that_is_as_long_has_its_size_among_them(largest: int) -> None:
    known = sizes(largest)
    assert known[0] == padded(largest)
    assert {padded(rows) for rows in range(1, largest + 1)} == set(known)
