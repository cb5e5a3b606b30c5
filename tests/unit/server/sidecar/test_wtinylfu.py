"""W-TinyLFU against the rules of its papers (ACM ToS 13(4), 2017; sizes: ToS 18(3), 2022)."""

import random

from cachetools import LRUCache
from hypothesis import given
from hypothesis import strategies as st

from cycle_server.sidecar.wtinylfu import MOST_USES, Sketch, WTinyLFUCache
from tests.unit.server.sidecar.traces import hits


def filled(keys: str, *, maxsize: int = 10) -> WTinyLFUCache[str, int]:
    """Its window holds nothing of so small a cache: what comes is weighed at once."""
    cache: WTinyLFUCache[str, int] = WTinyLFUCache(maxsize / 0.99, getsizeof=lambda value: value)
    for key in keys:
        cache[key] = 1
    return cache


def test_what_was_asked_no_more_often_than_the_oldest_is_not_let_in() -> None:
    cache = filled("abcdefghij")
    cache["k"] = 1
    assert "".join(sorted(cache)) == "abcdefghij"
    cache["k"] = 1  # for the second time; a was asked for once
    assert "".join(sorted(cache)) == "bcdefghijk"


def test_what_is_read_again_is_protected_from_what_comes_twice() -> None:
    cache = filled("abcdefghij")
    for key in "abc":
        cache.get(key)
    for key in "klmnopq" * 2:
        cache[key] = 1
    assert set("abc") <= set(cache)


def test_a_large_one_must_be_worth_all_that_go_for_it() -> None:
    cache = filled("abcdefghij")
    for _ in range(5):
        cache["large"] = 5
    assert "large" not in cache
    cache["large"] = 5  # for the sixth time; the five that go were asked for once each
    assert sorted(cache) == ["f", "g", "h", "i", "j", "large"]


def test_the_window_lets_in_what_is_new() -> None:
    cache: WTinyLFUCache[int, int] = WTinyLFUCache(1000, getsizeof=lambda value: value)
    for key in range(1000):
        cache[key] = 1
        cache.get(key)
    for key in range(2000, 2010):
        cache[key] = 1
    assert set(range(2000, 2010)) <= set(cache)  # ten of a thousand
    cache[3000] = 1
    assert 2000 not in cache


def test_deleting_and_clearing_leave_nothing_behind() -> None:
    cache = filled("abc")
    cache.get("a")
    del cache["b"]
    assert (len(cache), cache.currsize) == (2, 2)
    assert cache.popitem() == ("c", 1)
    cache.clear()
    assert (len(cache), cache.currsize) == (0, 0)
    cache["a"] = 1
    assert cache["a"] == 1


@given(st.lists(st.tuples(st.sampled_from("srd"), st.integers(0, 40), st.integers(1, 60)), max_size=300))
def test_sizes_are_kept_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    cache: WTinyLFUCache[int, int] = WTinyLFUCache(200, getsizeof=lambda value: value)
    truth: dict[int, int] = {}
    for what, key, size in steps:
        if what == "s":
            cache[key] = truth[key] = size
        elif what == "r":
            assert cache.get(key) in (None, truth.get(key))
        else:
            cache.pop(key, None)
        parts = (cache._window, cache._probation, cache._protected)
        assert cache.currsize == sum(sum(part.values()) for part in parts) <= 200
        assert cache._window_size == sum(cache._window.values()) <= 2
        assert cache._protected_size == sum(cache._protected.values()) <= 0.8 * 198
        assert cache._main_size == cache.currsize - cache._window_size <= 198
        assert sorted(cache) == sorted(key for part in parts for key in part)


def test_the_sketch_tells_about_how_often_and_never_less_until_it_ages() -> None:
    sketch, chance = Sketch(), random.Random(2)
    truth: dict[int, int] = {}
    for _ in range(1500):
        key = int(chance.paretovariate(0.7)) % 400
        truth[key] = truth.get(key, 0) + 1
        sketch.count(key, keys=400)
    over = [sketch.uses(key) - min(uses, MOST_USES) for key, uses in truth.items()]
    assert min(over) == 0
    assert sum(over) < 0.02 * len(over)


def test_the_sketch_grows_without_forgetting_and_ages() -> None:
    sketch = Sketch()
    for _ in range(9):
        sketch.count("a", keys=1)
    for _ in range(11):
        sketch.count("b", keys=1000)
    assert (sketch.uses("a"), sketch.uses("b")) == (9, 11)
    for number in range(11_000):
        sketch.count(number, keys=1000)
    assert sketch.uses("a") < 9


def test_favourites_of_yesterday_go() -> None:
    chance = random.Random(1)
    trace = [int(chance.paretovariate(0.8)) % 5_000 + 10_000 * (number // 40_000) for number in range(80_000)]
    alone = hits(WTinyLFUCache(100, getsizeof=lambda _: 1), trace[40_000:])
    both: WTinyLFUCache[int, int] = WTinyLFUCache(100, getsizeof=lambda _: 1)
    hits(both, trace[:40_000])
    assert hits(both, trace[40_000:]) > 0.98 * alone
    assert alone > hits(LRUCache(100), trace[40_000:])
