"""Runs passes over keys: several at once, one at a time per key, failures later and later."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cycleops.controller import metrics
from cycleops.controller.kinds import Kind
from cycleops.controller.kube import ApiError, ConflictError
from cycleops.controller.schedule import Schedule, Taken

logger = logging.getLogger(__name__)

PASS_TIMEOUT_SECONDS = 120.0
BEAT_SECONDS = 1.0


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One user object. ``kind`` is the kind's name, such as CycleJob."""

    kind: str
    namespace: str
    name: str

    @staticmethod
    def of(kind: Kind, *, namespace: str, name: str) -> "Key":
        return Key(kind.kind, namespace, name)


# One pass over a key. Returns seconds until the next pass is wanted without an event, or None.
Pass = Callable[[Key], Awaitable[float | None]]


class KeyedQueue:
    """``add`` from anywhere in the event loop; ``run`` in a task; ``drain`` to stop."""

    def __init__(self, *, run_pass: Pass, workers: int, rng: random.Random | None = None) -> None:
        self._pass = run_pass
        self._workers = workers
        self._rng = rng or random.Random()
        self._schedule: Schedule[Key] = Schedule()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._beat = time.monotonic()

    def add(self, key: Key, *, after_seconds: float = 0.0) -> None:
        self._schedule.ask(key, at=time.monotonic() + after_seconds)
        self._wake.set()

    async def run(self) -> None:
        """Hand out keys until drained. Ends when draining begins; passes under way go on."""
        while not self._stopping:
            self._beat = time.monotonic()
            self._wake.clear()
            self._start_due()
            metrics.QUEUE_DEPTH.set(self._schedule.depth(now=time.monotonic()))
            await self._sleep()

    async def drain(self, *, timeout_seconds: float) -> int:
        """Stop handing out keys and wait for the passes under way. Returns how many had to be cut off."""
        self._stopping = True
        self._wake.set()
        if not self._tasks:
            return 0
        _, late = await asyncio.wait(self._tasks, timeout=timeout_seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    def stalled_seconds(self) -> float:
        """How long ago the queue last turned: what liveness tests."""
        return time.monotonic() - self._beat

    def _start_due(self) -> None:
        while len(self._tasks) < self._workers:
            taken = self._schedule.take(now=time.monotonic())
            if taken is None:
                return
            task = asyncio.create_task(self._work(taken), name=f"pass {taken.key}")
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    async def _sleep(self) -> None:
        at = self._schedule.next_at()
        delay = BEAT_SECONDS if at is None else min(BEAT_SECONDS, at - time.monotonic())
        if len(self._tasks) >= self._workers:
            delay = BEAT_SECONDS  # nothing can start before a pass ends, which wakes us
        try:
            await asyncio.wait_for(self._wake.wait(), timeout=max(delay, 0.0))
        except TimeoutError:
            return

    async def _work(self, taken: Taken[Key]) -> None:
        key, started = taken.key, time.monotonic()
        metrics.QUEUE_WAIT.observe(taken.waited_seconds)
        try:
            async with asyncio.timeout(PASS_TIMEOUT_SECONDS):
                again = await self._pass(key)
        except asyncio.CancelledError:
            self._schedule.fail(key, now=time.monotonic(), jitter=0.0)
            raise
        except Exception as error:  # noqa: BLE001 - the queue is where every failure of a pass ends: logged and retried
            self._retry(key, error)
        else:
            self._schedule.succeed(key)
            metrics.RECONCILES.labels(kind=key.kind, result="ok").inc()
            if again is not None:
                self.add(key, after_seconds=again)
        metrics.RECONCILE_SECONDS.labels(kind=key.kind).observe(time.monotonic() - started)

    def _retry(self, key: Key, error: Exception) -> None:
        delay = self._schedule.fail(key, now=time.monotonic(), jitter=self._rng.random())
        metrics.RECONCILES.labels(kind=key.kind, result="error").inc()
        metrics.QUEUE_RETRIES.inc()
        expected = isinstance(error, ConflictError) or (isinstance(error, ApiError) and error.code in (0, 429, 503))
        logger.log(
            logging.WARNING if expected else logging.ERROR,
            "pass over %s %s/%s failed, next try in %.1f s: %s",
            key.kind,
            key.namespace,
            key.name,
            delay,
            error,
            exc_info=None if isinstance(error, ApiError) else error,
        )
