"""How a request's time is split and said, hop by hop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cycle_server.protocol.timing import TERMS, Stopwatch, hit_headers, parse_timing, server_headers, sidecar_headers

seconds = st.floats(0.0, 10.0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(seconds, min_size=1, max_size=5))
def test_laps_add_up_to_all_of_the_time(lengths: list[float]) -> None:
    clock = Clock()
    watch = Stopwatch(clock=clock)
    for index, length in enumerate(lengths):
        clock.now += length
        watch.lap(f"lap{index}")
    assert sum(watch.terms.values()) == pytest.approx(watch.elapsed_seconds)


def test_what_others_measured_within_a_lap_is_taken_out_of_it() -> None:
    clock = Clock()
    watch = Stopwatch(clock=clock)
    clock.now += 0.25
    watch.lap("queue", of_which={"compute": 0.125})
    assert watch.terms == {"queue": 0.125, "compute": 0.125}
    assert watch.elapsed_seconds == 0.25


@given(pre=seconds, queue=seconds, compute=seconds, post=seconds, hop=seconds, own=seconds)
def test_the_terms_of_a_miss_add_up_over_all_hops(
    pre: float, queue: float, compute: float, post: float, hop: float, own: float
) -> None:
    clock = Clock()
    watch = Stopwatch(clock=clock)
    clock.now += pre
    watch.lap("pre")
    clock.now += queue + compute
    watch.lap("queue", of_which={"compute": compute})
    clock.now += post
    watch.lap("post")
    waited = watch.elapsed_seconds + hop
    total = waited + own
    said = sidecar_headers(
        outcome="miss", total_seconds=total, waited_seconds=waited, upstream=server_headers(watch.terms)
    )
    found = parse_timing(said["Server-Timing"])
    assert sum(found.values()) == pytest.approx(total, abs=5e-6)
    assert found.get("transport", 0.0) == pytest.approx(hop, abs=5e-6)
    assert int(said["X-Cycle-Elapsed-Us"]) == pytest.approx(1e6 * total, abs=2)
    assert int(said["X-Cycle-Terms-Us"]) == pytest.approx(1e6 * sum(found.get(term, 0.0) for term in TERMS), abs=4)


def test_who_waits_for_anothers_miss_waits_in_a_queue() -> None:
    upstream = {"Server-Timing": "queue;dur=1, compute;dur=20", "X-Cycle-Elapsed-Us": "21000"}
    said = sidecar_headers(outcome="coalesced", total_seconds=0.011, waited_seconds=0.01, upstream=upstream)
    assert parse_timing(said["Server-Timing"]) == pytest.approx({"queue": 0.01, "cache": 0.001})


def test_a_hit_is_the_caches_time_alone() -> None:
    said = hit_headers(0.0005)
    assert parse_timing(said["Server-Timing"]) == {"cache": 0.0005}
    assert (said["X-Cycle-Elapsed-Us"], said["X-Cycle-Terms-Us"]) == ("500", "0")


def test_a_server_that_does_not_say_how_long_it_had_the_request_is_taken_by_its_terms() -> None:
    upstream = {"Server-Timing": "queue;dur=1, compute;dur=5"}
    said = sidecar_headers(outcome="miss", total_seconds=0.01, waited_seconds=0.009, upstream=upstream)
    assert parse_timing(said["Server-Timing"])["transport"] == pytest.approx(0.003)
    spoilt = sidecar_headers(
        outcome="bypass", total_seconds=0.01, waited_seconds=0.009, upstream={"X-Cycle-Elapsed-Us": "-3;x"}
    )
    assert parse_timing(spoilt["Server-Timing"])["transport"] == pytest.approx(0.009)


def test_entries_of_one_name_add_up() -> None:
    assert parse_timing("transport;dur=1.5, cache;dur=1, transport;dur=0.5") == {"transport": 0.002, "cache": 0.001}
