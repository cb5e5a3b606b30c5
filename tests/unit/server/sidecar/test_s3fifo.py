"""S3-FIFO against the rules of its paper (SOSP'23, section 4 and algorithm 1)."""

import random
from collections import OrderedDict

from cachetools import LRUCache

from cycle_server.sidecar.s3fifo import S3FIFOCache
from tests.unit.server.sidecar.traces import hits


def filled(keys: str, *, maxsize: int = 10) -> S3FIFOCache[str, int]:
    cache: S3FIFOCache[str, int] = S3FIFOCache(maxsize, getsizeof=lambda value: value)
    for key in keys:
        cache[key] = 1
    return cache


def read(cache: S3FIFOCache[str, int], keys: str) -> None:
    for key in keys:
        cache.get(key)


def test_what_is_new_and_never_read_leaves_first_in_first_out() -> None:
    cache = filled("abcdefghij")
    cache["k"] = 1
    cache["l"] = 1
    assert "".join(cache) == "cdefghijkl"


def test_what_was_read_once_in_the_small_queue_leaves_and_what_was_read_twice_stays() -> None:
    cache = filled("abcdefghij")
    read(cache, "abb")
    cache["k"] = 1  # a: read once, leaves; its key is remembered
    cache["l"] = 1  # b: read twice, goes to the main queue; c leaves
    assert "a" not in cache
    assert "c" not in cache
    assert "b" in cache
    assert cache.ghosts == 2


def test_what_comes_back_while_it_is_remembered_goes_to_the_main_queue() -> None:
    cache = filled("abcdefghij")
    cache["k"] = 1  # a leaves
    cache["a"] = 1  # comes back to the main queue; b leaves
    for key in "mnopqrstuvwxyz":  # a scan, all through the small queue
        cache[key] = 1
    assert "a" in cache
    assert "k" not in cache


def test_the_main_queue_gives_what_was_read_another_round() -> None:
    cache = filled("abcdefghij")
    read(cache, "abcdefghij" * 2)
    cache["k"] = 1  # all but the last go to the main queue; its oldest, a, leaves
    assert "a" not in cache
    read(cache, "b")
    cache["l"] = 1
    cache["m"] = 1
    assert "b" in cache


def test_deleting_and_clearing_leave_nothing_behind() -> None:
    cache = filled("abc")
    del cache["b"]
    assert (len(cache), cache.currsize, cache.ghosts) == (2, 2, 0)
    cache.clear()
    assert (len(cache), cache.currsize, cache.ghosts) == (0, 0, 0)
    cache["a"] = 1
    assert cache["a"] == 1


def test_sizes_are_kept_whatever_happens() -> None:
    chance = random.Random(3)
    cache: S3FIFOCache[int, int] = S3FIFOCache(1000, getsizeof=lambda value: value)
    for _ in range(30_000):
        key = int(chance.paretovariate(0.5)) % 300
        what = chance.random()
        if what < 0.5:
            cache[key] = chance.randrange(1, 200)
        elif what < 0.9:
            cache.get(key)
        else:
            cache.pop(key, None)
        assert cache.currsize == sum(cache._small.values()) + sum(cache._main.values()) <= 1000
        assert cache._small_size == sum(cache._small.values())
        assert cache._ghosts_size == sum(cache._ghosts.values()) <= 900
        assert set(cache) == set(cache._small) | set(cache._main) == set(cache._uses)
        assert not set(cache._small) & set(cache._main)


def test_it_is_what_the_paper_says_on_a_trace() -> None:
    """Hit by hit as a plain transcription of algorithm 1, and above LRU on a skewed trace with one-hit wonders."""
    chance = random.Random(1)
    trace = [int(chance.paretovariate(0.8)) % 5_000 for _ in range(30_000)]
    found = hits(S3FIFOCache(100, getsizeof=lambda _: 1), trace)
    paper = Transcription(100)
    assert found == sum(paper.read(key) for key in trace)
    assert found > hits(LRUCache(100), trace)


class Transcription:
    """Algorithm 1, for objects of size 1, with the paper's names."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.s, self.m = OrderedDict[int, int](), OrderedDict[int, int]()  # key to freq
        self.g = OrderedDict[int, None]()

    def read(self, x: int) -> bool:
        for queue in (self.s, self.m):
            if x in queue:
                queue[x] = min(queue[x] + 1, 3)
                return True
        self.insert(x)
        return False

    def insert(self, x: int) -> None:
        while len(self.s) + len(self.m) >= self.size:
            self.evict()
        if x in self.g:
            del self.g[x]
            self.m[x] = 0
        else:
            self.s[x] = 0

    def evict(self) -> None:
        if len(self.s) >= 0.1 * self.size:
            self.evict_s()
        else:
            self.evict_m()

    def evict_s(self) -> None:
        evicted = False
        while not evicted and self.s:
            t, freq = self.s.popitem(last=False)
            if freq > 1:
                self.m[t] = 0
                if len(self.m) > 0.9 * self.size:
                    self.evict_m()
                    evicted = True
            else:
                self.g[t] = None
                if len(self.g) > 0.9 * self.size:
                    self.g.popitem(last=False)
                evicted = True

    def evict_m(self) -> None:
        while self.m:
            t, freq = self.m.popitem(last=False)
            if not freq:
                return
            self.m[t] = freq - 1
