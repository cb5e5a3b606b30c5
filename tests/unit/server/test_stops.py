"""Stop texts in text that comes in pieces."""

from hypothesis import given
from hypothesis import strategies as st

from cycle_server.protocol.stops import Stops


def told(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    watch = Stops(stops)
    text = "".join(watch.feed(piece) for piece in pieces)
    return (text, True) if watch.hit else (text + watch.rest(), watch.hit)


@given(
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=4),
    st.lists(st.text("abc", max_size=5), max_size=12),
)
def test_however_the_text_is_cut_it_ends_before_the_first_stop(stops: list[str], pieces: list[str]) -> None:
    """Of the stops that are whole at the earliest time; what comes before it was never sure to come after."""
    text = "".join(pieces)
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    given_text, hit = told(stops, pieces)
    assert hit == bool(ends)
    assert text.startswith(given_text)
    if not ends:
        assert given_text == text
    else:
        assert not any(stop in given_text for stop in stops)
        assert any(text[len(given_text) :].startswith(stop) for stop in stops)


def test_nothing_is_told_that_may_be_a_stop() -> None:
    watch = Stops(["END", "no"])
    assert [watch.feed(piece) for piece in ("a E", "N", "d", " n", "o more")] == ["a ", "", "ENd", " ", ""]
    assert watch.hit
    assert watch.feed("x") == ""
