"""Circuit breaker: what fails is left alone for a while, so that it costs nobody any time."""

import random
import time
from collections.abc import Callable

FAILURES_TO_OPEN = 3
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0


class Breaker:
    """Closed: all may try. Open: nobody, until a pause is over; then one may, and its luck decides for all.

    Each failed try doubles the pause, up to ``LONGEST_PAUSE_SECONDS``; it is jittered, so that pods don't try together.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._clock = clock
        self._uniform = uniform
        self._failures = 0
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._until: float | None = None
        self._trying = False

    @property
    def closed(self) -> bool:
        return self._until is None

    def may_try(self) -> bool:
        """True obliges the caller to say succeeded(), failed() or abandoned() afterwards."""
        if self._until is None:
            return True
        if self._trying or self._clock() < self._until:
            return False
        self._trying = True
        return True

    def succeeded(self) -> None:
        self._failures, self._pause_seconds = 0, FIRST_PAUSE_SECONDS
        self._until, self._trying = None, False

    def failed(self) -> None:
        self._failures += 1
        if self._until is None and self._failures < FAILURES_TO_OPEN:
            return
        if self._until is not None and not self._trying:
            return  # began before it opened
        self._until = self._clock() + self._pause_seconds * self._uniform(0.5, 1.0)
        self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
        self._trying = False

    def abandoned(self) -> None:
        """The caller was cancelled and knows nothing."""
        self._trying = False
