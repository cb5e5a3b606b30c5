"""The cache's memory: what stays, what goes, for how long, and how much of it there is."""

import gc
import os
import random
import tracemalloc

import pytest

from cycle_server.sidecar.cache import OVERHEAD_BYTES, POLICIES, AnswerCache, Known, KnownRequests
from cycle_wire.serving import CachePolicy

ALL = list(CachePolicy)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def cache(
    policy: CachePolicy = CachePolicy.LRU, *, entries: int = 10, body_bytes: int = 100, clock: Clock | None = None,
    share: float = 1.0,
) -> AnswerCache:  # fmt: skip
    """Room for ``entries`` answers of ``body_bytes``; answers end after 9 + ``share`` seconds."""

    def uniform(low: float, high: float) -> float:
        return low + share * (high - low)

    size = entries * (OVERHEAD_BYTES[policy] + body_bytes)
    return AnswerCache(policy=policy, size_bytes=size, ttl_seconds=10, clock=clock or Clock(), uniform=uniform)


def body_of(answers: AnswerCache, key: bytes) -> bytes | None:
    kept = answers.get(key)
    return kept.body if kept else None


@pytest.mark.parametrize("policy", ALL)
def test_answers_end_after_their_time_with_jitter(policy: CachePolicy) -> None:
    clock = Clock()
    late, early = cache(policy, clock=clock), cache(policy, clock=clock, share=0.0)
    late.put(b"k", b"v")
    early.put(b"k", b"v")
    clock.now = 8.9
    assert body_of(late, b"k") == body_of(early, b"k") == b"v"
    clock.now = 9.1
    assert body_of(late, b"k") == b"v"
    assert body_of(early, b"k") is None
    clock.now = 10.1
    assert body_of(late, b"k") is None
    assert late.entries == late.size_bytes == 0


def test_an_answer_from_elsewhere_brings_its_age() -> None:
    clock = Clock()
    clock.now = 100.0
    answers = cache(clock=clock)
    kept = answers.put(b"k", b"v", age_seconds=6)
    assert answers.age_seconds(kept) == 6
    clock.now = 103.9
    assert body_of(answers, b"k") == b"v"
    clock.now = 104.1
    assert body_of(answers, b"k") is None
    answers.put(b"old", b"v", age_seconds=10)
    assert body_of(answers, b"old") is None


@pytest.mark.parametrize("policy", ALL)
def test_a_new_answer_takes_the_place_of_the_old(policy: CachePolicy) -> None:
    answers = cache(policy)
    answers.put(b"k", b"1")
    answers.put(b"k", b"2" * 50)
    assert body_of(answers, b"k") == b"2" * 50
    assert (answers.entries, answers.size_bytes) == (1, OVERHEAD_BYTES[policy] + 50)


@pytest.mark.parametrize("policy", ALL)
def test_the_size_is_bounded_whatever_comes(policy: CachePolicy) -> None:
    answers = cache(policy, entries=20)
    limit = 20 * (OVERHEAD_BYTES[policy] + 100)
    bodies: dict[bytes, bytes] = {}
    chance = random.Random(5)
    for _ in range(20_000):
        key = str(int(chance.paretovariate(0.6)) % 500).encode()
        if chance.random() < 0.5:
            bodies[key] = bytes([chance.randrange(256)]) * chance.randrange(2_500)
            answers.put(key, bodies[key])
        else:
            # An answer too large to be kept leaves the one before it: both were right when they were made.
            assert body_of(answers, key) is None or len(bodies[key]) > 1_500 or body_of(answers, key) == bodies[key]
        assert answers.size_bytes <= limit
    assert answers.entries >= 5


def test_who_goes_first() -> None:
    def left(policy: CachePolicy) -> set[bytes]:
        answers = cache(policy, entries=3)
        for name in (b"a", b"b", b"c"):
            answers.put(name, b"x" * 100)
        for name in (b"b", b"b", b"a"):
            answers.get(name)
        answers.put(b"d", b"x" * 100)
        return {name for name in (b"a", b"b", b"c", b"d") if answers.get(name)}

    assert left(CachePolicy.LRU) == {b"a", b"b", b"d"}
    assert left(CachePolicy.FIFO) == {b"b", b"c", b"d"}
    assert left(CachePolicy.LFU) == {b"a", b"b", b"d"}


def test_size_zero_keeps_nothing() -> None:
    for policy in ALL:
        answers = AnswerCache(policy=policy, size_bytes=0, ttl_seconds=10)
        answers.put(b"k", b"v")
        assert answers.get(b"k") is None


@pytest.mark.parametrize("policy", ALL)
def test_the_bytes_that_are_counted_are_the_bytes_that_are_used(policy: CachePolicy) -> None:
    """Of memory as Python's allocator sees it: never more than is counted, and no less than half of it."""
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        answers = AnswerCache(policy=policy, size_bytes=2_000_000, ttl_seconds=1000)
        for number in range(8_000):
            key = os.urandom(32)
            answers.put(key, os.urandom(200))
            if number % 3 == 0:
                for _ in range(3):
                    answers.get(key)
        gc.collect()
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.5 * answers.size_bytes <= used <= answers.size_bytes


def test_requests_that_were_read_are_bounded_too() -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        known = KnownRequests(size_bytes=1_000_000)
        for number in range(9_000):
            known.put(os.urandom(32), Known(key=os.urandom(32), request_id="é" * (number % 40) or None))
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used <= 1_000_000
    assert len(known) > 1_000


def test_every_policy_of_the_api_is_there() -> None:
    assert set(POLICIES) == set(OVERHEAD_BYTES) == set(CachePolicy)
