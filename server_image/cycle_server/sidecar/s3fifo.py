"""S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: FIFO queues are all you need for cache eviction, SOSP'23, algorithm 1).

A small queue takes what is new; what is asked again while it is there goes on to the main queue, the rest leaves and
only its key is remembered. What comes back while its key is remembered goes to the main queue at once. So what is
asked once never pushes out what is asked often, and a hit moves nothing.

The paper counts objects of one size; here all sizes are bytes, as in the authors' simulator (libCacheSim).
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from cachetools import Cache

KT = TypeVar("KT")
VT = TypeVar("VT")

SMALL_SHARE = 0.1
GHOST_SHARE = 0.9  # the remembered keys are of objects of so many bytes: as many as the main queue has room for
MOST_USES = 3  # two bits
USES_TO_MAIN = 2  # "accessed more than once" while in the small queue


class S3FIFOCache(Cache[KT, VT]):
    """A cachetools cache. Its keys' uses are counted by reading them with [] or get()."""

    def __init__(self, maxsize: float, getsizeof: Callable[[VT], float] | None = None) -> None:
        super().__init__(maxsize, getsizeof)
        self._small: OrderedDict[KT, float] = OrderedDict()  # key to size, oldest first
        self._main: OrderedDict[KT, float] = OrderedDict()
        self._ghosts: OrderedDict[KT, float] = OrderedDict()
        self._small_size = 0.0
        self._ghosts_size = 0.0
        self._uses: dict[KT, int] = {}

    def __getitem__(self, key: KT) -> VT:
        value: VT = super().__getitem__(key)
        uses = self._uses.get(key)
        if uses is not None and uses < MOST_USES:
            self._uses[key] = uses + 1
        return value

    def __setitem__(self, key: KT, value: VT) -> None:
        """Raises ValueError for a value larger than the cache."""
        super().__setitem__(key, value)  # makes room by popitem
        size = self.getsizeof(value)
        if key in self._main:
            self._main[key] = size
        elif key in self._small:
            self._small_size += size - self._small[key]
            self._small[key] = size
        else:
            self._insert(key, size)

    def __delitem__(self, key: KT) -> None:
        super().__delitem__(key)
        self._uses.pop(key, None)
        if key in self._small:
            self._small_size -= self._small.pop(key)
        else:
            self._main.pop(key, None)

    def popitem(self) -> tuple[KT, VT]:
        """Evicts one. Raises KeyError when there is none."""
        small_is_full = self._small_size >= SMALL_SHARE * self.maxsize
        key = self._out_of_small() if small_is_full or not self._main else None
        if key is None:
            key = self._out_of_main()
        value: VT = Cache.__getitem__(self, key)
        del self[key]
        return key, value

    def clear(self) -> None:
        super().clear()
        for part in (self._small, self._main, self._ghosts, self._uses):
            part.clear()
        self._small_size = self._ghosts_size = 0.0

    @property
    def ghosts(self) -> int:
        """How many keys of evicted objects are remembered."""
        return len(self._ghosts)

    def _insert(self, key: KT, size: float) -> None:
        self._uses[key] = 0
        if key in self._ghosts:
            self._ghosts_size -= self._ghosts.pop(key)
            self._main[key] = size
        else:
            self._small[key] = size
            self._small_size += size

    def _out_of_small(self) -> KT | None:
        """The key to evict; None when all of the small queue went on to the main queue."""
        while self._small:
            key, size = next(iter(self._small.items()))
            if self._uses[key] < USES_TO_MAIN:
                self._remember(key, size)
                return key
            del self._small[key]
            self._small_size -= size
            self._uses[key] = 0
            self._main[key] = size
            if self._main_size() > (1 - SMALL_SHARE) * self.maxsize:
                return self._out_of_main()
        return None

    def _out_of_main(self) -> KT:
        while True:
            key = next(iter(self._main), None)
            if key is None:
                raise KeyError("the cache is empty")
            if not self._uses[key]:
                return key
            self._uses[key] -= 1
            self._main.move_to_end(key)

    def _main_size(self) -> float:
        return float(self.currsize) - self._small_size

    def _remember(self, key: KT, size: float) -> None:
        self._ghosts[key] = size
        self._ghosts_size += size
        while self._ghosts_size > GHOST_SHARE * self.maxsize:
            self._ghosts_size -= self._ghosts.popitem(last=False)[1]
