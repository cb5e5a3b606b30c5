"""The queue before the compute thread, and that thread. The thread itself closes batches: no hand-over between two."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cycle_server.batching.cost import Cost
from cycle_server.batching.policy import Limits, Waiting, decide, expected_finish

logger = logging.getLogger(__name__)

Tokens = Sequence[Sequence[int]]
IDLE_TICK_SECONDS = 1.0
STUCK_SECONDS = 30.0  # beyond what the running batch was expected to take


class Compute(Protocol):
    """Logits (texts, classes) of token ids; called on the compute thread only."""

    def __call__(self, tokens: Tokens, /) -> np.ndarray: ...


class ShedError(Exception):
    """The request can't be answered within its deadline, or the queue is full."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True)
class Computed:
    """``queue_seconds``: from submission to the end, less computing. ``batch_size``: texts of the last batch."""

    logits: np.ndarray
    queue_seconds: float
    compute_seconds: float
    batch_size: int


@dataclass(frozen=True)
class _Ran:
    """What one piece got from its batch; times on time.monotonic()."""

    logits: np.ndarray
    started: float
    ended: float
    batch_size: int


@dataclass(eq=False)
class _Piece:
    """Texts of one request that run in one batch."""

    tokens: Tokens
    waiting: Waiting
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[_Ran]"

    def resolve(self, result: _Ran | Exception) -> None:
        self.loop.call_soon_threadsafe(self._set, result)

    def _set(self, result: _Ran | Exception) -> None:
        if self.done.done():  # its client has gone
            return
        if isinstance(result, Exception):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


class Batcher:
    """``observe(batch_size, compute_seconds)`` is called on the compute thread after each batch."""

    def __init__(
        self,
        *,
        compute: Compute,
        limits: Limits,
        cost: Cost,
        queue_limit: int,
        observe: Callable[[int, float], None] = lambda _size, _seconds: None,
    ) -> None:
        self._compute = compute
        self._limits = limits
        self._cost = cost
        self._queue_limit = queue_limit
        self._observe = observe
        self._changed = threading.Condition()
        self._pieces: list[_Piece] = []
        self._busy_until = 0.0
        self._heartbeat = time.monotonic()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end after what is queued."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    @property
    def depth(self) -> int:
        """Texts that wait."""
        with self._changed:
            return sum(piece.waiting.texts for piece in self._pieces)

    def is_stuck(self) -> bool:
        """True when the compute thread hasn't come around for far longer than its batch should take."""
        with self._changed:
            return time.monotonic() > max(self._heartbeat, self._busy_until) + STUCK_SECONDS

    async def submit(self, tokens: Tokens, *, deadline: float) -> Computed:
        """Logits of the texts, in their order. ``deadline`` on time.monotonic(). Raises ShedError.

        Cancelling takes what hasn't started out of the queue.
        """
        arrival = time.monotonic()
        size = self._limits.maximum_batch_size
        pieces = [self._piece(tokens[i : i + size], arrival, deadline) for i in range(0, len(tokens), size)]
        self._admit(pieces, now=arrival)
        try:
            ran = await asyncio.gather(*(piece.done for piece in pieces))
        except BaseException:  # shed, failed or cancelled: the rest of the request isn't wanted either
            self._withdraw(pieces)
            raise
        compute_seconds = sum(part.ended - part.started for part in ran)
        return Computed(
            logits=ran[0].logits if len(ran) == 1 else np.concatenate([part.logits for part in ran]),
            queue_seconds=max(ran[-1].ended - arrival - compute_seconds, 0.0),
            compute_seconds=compute_seconds,
            batch_size=ran[-1].batch_size,
        )

    def _piece(self, tokens: Tokens, arrival: float, deadline: float) -> _Piece:
        loop = asyncio.get_running_loop()
        count = sum(len(text) for text in tokens)
        waiting = Waiting(texts=len(tokens), tokens=count, arrival=arrival, deadline=deadline)
        return _Piece(tokens=tokens, waiting=waiting, loop=loop, done=loop.create_future())

    def _admit(self, pieces: list[_Piece], *, now: float) -> None:
        total = Waiting(
            texts=sum(piece.waiting.texts for piece in pieces),
            tokens=sum(piece.waiting.tokens for piece in pieces),
            arrival=now,
            deadline=pieces[0].waiting.deadline,
        )
        with self._changed:
            waiting = [piece.waiting for piece in self._pieces]
            finish = expected_finish(
                total, waiting, now=now, busy_until=self._busy_until, limits=self._limits, cost=self._cost
            )
            if self._stopping or len(waiting) + len(pieces) > self._queue_limit:
                raise ShedError("the queue is full", retry_after_seconds=finish - now)
            if finish > total.deadline:
                raise ShedError(
                    f"would take {finish - now:.3f} s, the deadline is in {total.deadline - now:.3f} s",
                    retry_after_seconds=finish - total.deadline,
                )
            self._pieces.extend(pieces)
            self._changed.notify_all()

    def _withdraw(self, pieces: list[_Piece]) -> None:
        for piece in pieces:
            piece.done.cancel()
        with self._changed:
            self._pieces = [piece for piece in self._pieces if piece not in pieces]
            self._changed.notify_all()

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            self._run_batch(batch)

    def _next_batch(self) -> list[_Piece] | None:
        """Waits for a batch; None when stopped and nothing is left."""
        with self._changed:
            while True:
                now = self._heartbeat = time.monotonic()
                decision = decide(
                    [piece.waiting for piece in self._pieces], now=now, limits=self._limits, cost=self._cost
                )
                for index in decision.drop:
                    error = ShedError("its deadline can't be met any more", retry_after_seconds=0.0)
                    self._pieces[index].resolve(error)
                batch = [self._pieces[index] for index in decision.take]
                gone = {*decision.take, *decision.drop}
                self._pieces = [piece for index, piece in enumerate(self._pieces) if index not in gone]
                if batch:
                    self._busy_until = now + self._cost.seconds(tokens=sum(piece.waiting.tokens for piece in batch))
                    return batch
                if self._stopping and not self._pieces:
                    return None
                until = decision.wait_until
                self._changed.wait(IDLE_TICK_SECONDS if until is None else min(until - now, IDLE_TICK_SECONDS))

    def _run_batch(self, batch: list[_Piece]) -> None:
        texts = [text for piece in batch for text in piece.tokens]
        started = time.monotonic()
        try:
            logits = self._compute(texts)
        except Exception as error:  # noqa: BLE001 - one bad batch must not end the thread; its requests get a 500
            logger.exception("computing a batch of %d failed", len(texts))
            for piece in batch:
                piece.resolve(error)
            return
        ended = time.monotonic()
        first = 0
        for piece in batch:
            last = first + piece.waiting.texts
            piece.resolve(_Ran(logits[first:last], started, ended, batch_size=len(texts)))
            first = last
        with self._changed:
            self._cost = self._cost.after(tokens=sum(len(text) for text in texts), seconds=ended - started)
        self._observe(len(texts), ended - started)
