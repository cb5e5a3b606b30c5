"""W-TinyLFU (Einziger, Friedman, Manes: TinyLFU, a highly efficient cache admission policy, ACM ToS 13(4), 2017).

What is new comes into a small window, which is LRU. What leaves the window comes into the main part only if it was
asked more often than what would have to go for it; else it is dropped. The main part is a segmented LRU: what is asked
again there is protected. How often a key was asked is estimated by a sketch, which forgets half of it now and then, so
that the favourites of yesterday go.

The paper counts objects of one size; here all sizes are bytes, and a candidate must have been asked more often than all
that would go for it together (Einziger, Eytan, Friedman, Manes: Lightweight robust size aware cache management, ACM ToS
18(3), 2022, "aggregated victims").
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from itertools import chain
from typing import TypeVar

from cachetools import Cache

KT = TypeVar("KT", bound=Hashable)
VT = TypeVar("VT")

WINDOW_SHARE = 0.01
PROTECTED_SHARE = 0.8  # of the main part
# Odd numbers: each row's hash function is the first bits of a product (Dietzfelbinger et al. 1997).
_A, _B, _C, _D = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93
MOST_USES = 15
COUNTERS_PER_KEY = 4  # of each row
SAMPLE_PER_KEY = 10
SMALLEST_BITS = 8
_WORD = 2**64 - 1
_HALF = bytes(value // 2 for value in range(256))


class Sketch:
    """A count-min sketch with conservative update and ageing: about how often a key was counted, 15 at most."""

    def __init__(self) -> None:
        self._bits = SMALLEST_BITS
        self._rows = [bytearray(1 << self._bits) for _ in range(4)]
        self._counted = 0

    def count(self, key: Hashable, *, keys: int) -> None:
        """``keys``: how many are to be told apart; the sketch grows with them, and ages by them.

        Written out row by row: this is done at every hit.
        """
        while keys * COUNTERS_PER_KEY > 1 << self._bits:
            self._grow()
        a, b, c, d = self._rows
        i, j, k, m = self._places(key)
        uses = min(a[i], b[j], c[k], d[m])
        if uses < MOST_USES:
            more = uses + 1
            if a[i] == uses:
                a[i] = more
            if b[j] == uses:
                b[j] = more
            if c[k] == uses:
                c[k] = more
            if d[m] == uses:
                d[m] = more
        self._counted += 1
        if self._counted * COUNTERS_PER_KEY >= SAMPLE_PER_KEY << self._bits:
            self._counted //= 2
            self._rows = [row.translate(_HALF) for row in self._rows]

    def uses(self, key: Hashable) -> int:
        a, b, c, d = self._rows
        i, j, k, m = self._places(key)
        return min(a[i], b[j], c[k], d[m])

    def _places(self, key: Hashable) -> tuple[int, int, int, int]:
        word, shift = hash(key) & _WORD, 64 - self._bits
        return (
            (word * _A & _WORD) >> shift,
            (word * _B & _WORD) >> shift,
            (word * _C & _WORD) >> shift,
            (word * _D & _WORD) >> shift,
        )

    def _grow(self) -> None:
        """Twice as wide: a place is the first bits of a word, so each counter becomes two that are alike."""
        self._bits += 1
        self._rows = [bytearray(value for value in row for _ in range(2)) for row in self._rows]


class WTinyLFUCache(Cache[KT, VT]):
    """A cachetools cache. Its keys' uses are counted by reading them with [] or get(), and by setting them."""

    def __init__(self, maxsize: float, getsizeof: Callable[[VT], float] | None = None) -> None:
        super().__init__(maxsize, getsizeof)
        self._window: OrderedDict[KT, float] = OrderedDict()  # key to size, least recently used first
        self._probation: OrderedDict[KT, float] = OrderedDict()
        self._protected: OrderedDict[KT, float] = OrderedDict()
        self._window_size = self._main_size = self._protected_size = 0.0
        self._main_limit = (1 - WINDOW_SHARE) * maxsize
        self._sketch = Sketch()

    def __getitem__(self, key: KT) -> VT:
        value: VT = super().__getitem__(key)
        self._sketch.count(key, keys=len(self))
        if key in self._window:
            self._window.move_to_end(key)
        elif key in self._protected:
            self._protected.move_to_end(key)
        elif key in self._probation:
            self._protect(key)
        return value

    def __setitem__(self, key: KT, value: VT) -> None:
        """May drop the value at once. Raises ValueError for one larger than the cache."""
        size = self.getsizeof(value)
        if size > self.maxsize:
            raise ValueError("value too large")
        if key in self:
            del self[key]
        self._sketch.count(key, keys=len(self) + 1)
        self._window[key] = size
        self._window_size += size
        while self._window_size > WINDOW_SHARE * self.maxsize:
            self._leave_window()
        if key in self._window or key in self._probation:
            super().__setitem__(key, value)

    def __delitem__(self, key: KT) -> None:
        super().__delitem__(key)
        self._forget(key)

    def popitem(self) -> tuple[KT, VT]:
        """Evicts one. Raises KeyError when there is none."""
        for part in (self._probation, self._window, self._protected):
            for key in part:
                value: VT = Cache.__getitem__(self, key)
                del self[key]
                return key, value
        raise KeyError("the cache is empty")

    def clear(self) -> None:
        super().clear()
        for part in (self._window, self._probation, self._protected):
            part.clear()
        self._window_size = self._main_size = self._protected_size = 0.0

    def _forget(self, key: KT) -> None:
        if key in self._window:
            self._window_size -= self._window.pop(key)
            return
        if key in self._protected:
            size = self._protected.pop(key)
            self._protected_size -= size
        else:
            size = self._probation.pop(key, 0.0)
        self._main_size -= size

    def _protect(self, key: KT) -> None:
        self._protected[key] = size = self._probation.pop(key)
        self._protected_size += size
        while self._protected_size > PROTECTED_SHARE * self._main_limit:
            oldest, size = self._protected.popitem(last=False)
            self._protected_size -= size
            self._probation[oldest] = size

    def _leave_window(self) -> None:
        """The window's oldest goes on to the main part, or is dropped. The newest may be it: it has no value yet."""
        key, size = self._window.popitem(last=False)
        self._window_size -= size
        if self._made_room(key, size):
            self._probation[key] = size
            self._main_size += size
        elif key in self:
            Cache.__delitem__(self, key)

    def _made_room(self, candidate: KT, size: float) -> bool:
        """Evicts from the main part what is asked less often than the candidate; or nothing, when that isn't enough."""
        missing = size + self._main_size - self._main_limit
        worth = self._sketch.uses(candidate)
        victims: list[KT] = []
        for victim, victim_size in chain(self._probation.items(), self._protected.items()):
            if missing <= 0:
                break
            worth -= self._sketch.uses(victim)
            if worth <= 0:
                return False
            victims.append(victim)
            missing -= victim_size
        if missing > 0:
            return False  # larger than the main part
        for victim in victims:
            del self[victim]
        return True
