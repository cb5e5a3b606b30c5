"""Answers by key, least recently used out first, bounded in bytes, each with its own time to live."""

import random
import time
from collections.abc import Callable

from cachetools import TLRUCache

ENTRY_OVERHEAD_BYTES = 400  # of the containers around a key and a body (measured with tracemalloc)
TTL_JITTER = 0.1  # answers that were made together don't all end together


class AnswerCache:
    """``size_bytes`` 0 turns it off. Not for several threads: the sidecar has one event loop."""

    def __init__(
        self,
        *,
        size_bytes: int,
        ttl_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        def expiry(_key: bytes, _body: bytes, now: float) -> float:
            return now + ttl_seconds * uniform(1 - TTL_JITTER, 1)

        self._answers: TLRUCache[bytes, bytes] = TLRUCache(
            maxsize=size_bytes, ttu=expiry, timer=clock, getsizeof=_size_bytes
        )

    def get(self, key: bytes) -> bytes | None:
        body: bytes | None = self._answers.get(key)
        return body

    def put(self, key: bytes, body: bytes) -> None:
        """An answer larger than the whole cache isn't kept."""
        if _size_bytes(body) <= self._answers.maxsize:
            self._answers[key] = body

    @property
    def size_bytes(self) -> int:
        return int(self._answers.currsize)

    @property
    def entries(self) -> int:
        return len(self._answers)


def _size_bytes(body: bytes) -> int:
    return len(body) + ENTRY_OVERHEAD_BYTES
