"""Answers by key in this process' memory, bounded in bytes, each with its own time to live."""

import random
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cachetools import Cache, FIFOCache, LFUCache, LRUCache

from cycle_server.sidecar.s3fifo import S3FIFOCache
from cycle_server.sidecar.wtinylfu import WTinyLFUCache
from cycle_wire.serving import CachePolicy

# Of the key and the containers around it and the answer, by tracemalloc and at the worst: dicts grow by steps
# (tests/unit/server/sidecar/test_cache.py). S3-FIFO also remembers the keys of about as many answers as it holds,
# W-TinyLFU how often keys were asked for.
OVERHEAD_BYTES = {
    CachePolicy.LRU: 690,
    CachePolicy.FIFO: 690,
    CachePolicy.LFU: 720,
    CachePolicy.S3FIFO: 1010,
    CachePolicy.W_TINY_LFU: 740,
}
POLICIES: dict[CachePolicy, type[Cache[Any, Any]]] = {
    CachePolicy.LRU: LRUCache,
    CachePolicy.FIFO: FIFOCache,
    CachePolicy.LFU: LFUCache,
    CachePolicy.S3FIFO: S3FIFOCache,
    CachePolicy.W_TINY_LFU: WTinyLFUCache,
}
TTL_JITTER = 0.1  # answers that were made together don't all end together

Uniform = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer's body without an id, and seconds of the clock: when it was made, and when it is over."""

    body: bytes
    made: float
    over: float


class AnswerCache:
    """``size_bytes`` 0 turns it off. Not for several threads: the sidecar has one event loop."""

    def __init__(
        self,
        *,
        policy: CachePolicy,
        size_bytes: int,
        ttl_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        uniform: Uniform = random.uniform,
    ) -> None:
        overhead = OVERHEAD_BYTES[policy]
        self._overhead_bytes = overhead
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._uniform = uniform
        self._answers: Cache[bytes, Kept] = POLICIES[policy](
            maxsize=size_bytes, getsizeof=lambda kept: len(kept.body) + overhead
        )

    def get(self, key: bytes) -> Kept | None:
        """None for what isn't there or is over."""
        kept: Kept | None = self._answers.get(key)
        if kept is not None and kept.over <= self._clock():
            del self._answers[key]
            return None
        return kept

    def put(self, key: bytes, body: bytes, *, age_seconds: float = 0.0) -> Kept:
        """Keeps the answer if it is no larger than the whole cache, and the policy lets it in.

        ``age_seconds``: it was made so long ago.
        """
        made = self._clock() - age_seconds
        kept = Kept(body=body, made=made, over=made + self._ttl_seconds * self._uniform(1 - TTL_JITTER, 1))
        if age_seconds < self._ttl_seconds and len(body) + self._overhead_bytes <= self._answers.maxsize:
            self._answers[key] = kept
        return kept

    def age_seconds(self, kept: Kept) -> float:
        return max(self._clock() - kept.made, 0.0)

    @property
    def size_bytes(self) -> int:
        return int(self._answers.currsize)

    @property
    def entries(self) -> int:
        return len(self._answers)


@dataclass(frozen=True, slots=True)
class Known:
    """What reading a request gave: its key, and the id its answer must have."""

    key: bytes
    request_id: str | None


class KnownRequests:
    """Requests that were read before, by the digest of their bytes, so that their repeats need no parsing.

    The least recently used goes first; ``size_bytes`` bounds them.
    """

    OVERHEAD_BYTES = 450

    def __init__(self, *, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._used_bytes = 0

    def get(self, digest: bytes) -> Known | None:
        known = self._known.get(digest)
        if known is not None:
            self._known.move_to_end(digest)
        return known

    def put(self, digest: bytes, known: Known) -> None:
        if digest in self._known:
            return  # the same bytes read alike
        self._known[digest] = known
        self._used_bytes += self._bytes_of(known)
        while self._used_bytes > self._size_bytes:
            self._used_bytes -= self._bytes_of(self._known.popitem(last=False)[1])

    def __len__(self) -> int:
        return len(self._known)

    def _bytes_of(self, known: Known) -> int:
        return self.OVERHEAD_BYTES + 4 * len(known.request_id or "")
