"""Which key is due when: the queue's rules without tasks or clocks, so that they can be tested alone.

Rules: a key waits at most once, at the earliest of the times asked for; a key that is being worked on is never handed
out again until it is done; what is asked meanwhile is kept for afterwards. Ready keys leave in the order they became
due, so a noisy key cannot starve the others.
"""

import heapq
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)

FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Taken(Generic[KeyT]):
    key: KeyT
    waited_seconds: float


def retry_delay_seconds(*, failures: int, jitter: float) -> float:
    """Delay after so many failures: doubles from 1 s to 5 min; ``jitter`` in [0, 1) takes up to half off."""
    full = min(FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 30), LAST_RETRY_SECONDS)
    return full * (1.0 - jitter / 2.0)


class Schedule(Generic[KeyT]):
    """Times are seconds on one monotonic clock, given by the caller."""

    def __init__(self) -> None:
        self._due: dict[KeyT, float] = {}
        self._heap: list[tuple[float, int, KeyT]] = []
        self._order = 0
        self._active: set[KeyT] = set()
        self._failures: dict[KeyT, int] = {}

    def ask(self, key: KeyT, *, at: float) -> None:
        """Hand out ``key`` at ``at`` or earlier."""
        current = self._due.get(key)
        if current is not None and current <= at:
            return
        self._due[key] = at
        if key not in self._active:
            self._push(key, at)

    def take(self, *, now: float) -> Taken[KeyT] | None:
        """The key that has been due longest, now active; None when none is due."""
        while self._heap:
            at, _, key = self._heap[0]
            if key in self._active or self._due.get(key) != at:
                heapq.heappop(self._heap)  # asked for earlier since, taken, or forgotten
                continue
            if at > now:
                return None
            heapq.heappop(self._heap)
            del self._due[key]
            self._active.add(key)
            return Taken(key=key, waited_seconds=now - at)
        return None

    def succeed(self, key: KeyT) -> None:
        """The pass over an active key ended well: its count of failures starts again."""
        self._failures.pop(key, None)
        self._release(key)

    def fail(self, key: KeyT, *, now: float, jitter: float) -> float:
        """The pass over an active key failed. Returns the seconds until it is tried again, unless asked for before."""
        failures = self._failures.get(key, 0) + 1
        self._failures[key] = failures
        delay = retry_delay_seconds(failures=failures, jitter=jitter)
        # What came in during a failing pass must not turn the back-off into a hot loop.
        self._due[key] = now + delay
        self._release(key)
        return delay

    def next_at(self) -> float | None:
        """When :meth:`take` will next give a key; None when nothing waits."""
        while self._heap:
            at, _, key = self._heap[0]
            if key not in self._active and self._due.get(key) == at:
                return at
            heapq.heappop(self._heap)
        return None

    def depth(self, *, now: float) -> int:
        """Keys that are due and not taken."""
        return sum(1 for key, at in self._due.items() if at <= now and key not in self._active)

    @property
    def active(self) -> int:
        return len(self._active)

    def _release(self, key: KeyT) -> None:
        self._active.discard(key)
        at = self._due.get(key)
        if at is not None:
            self._push(key, at)

    def _push(self, key: KeyT, at: float) -> None:
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, key))
