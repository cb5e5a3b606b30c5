"""The queue before the compute thread, and that thread. The thread itself closes batches: no hand-over between two."""

import asyncio
import threading
import time
from dataclasses import dataclass, replace

import numpy as np

from cycle_server.batching.cost import Cost
from cycle_server.batching.errors import RateLimitedError, ShedError, ShedReason
from cycle_server.batching.execution import Compute, Execution, Ran, Tokens, execute, is_out_of_memory
from cycle_server.batching.observer import Observer
from cycle_server.batching.policy import Flow, Limits, Waiting, decide, expected_finish
from cycle_server.batching.queue import Piece, Queue, deliver
from cycle_server.batching.rate import RateLimits

__all__ = ["Batcher", "Compute", "Computed", "RateLimitedError", "ShedError", "Tokens"]

IDLE_TICK_SECONDS = 1.0
STUCK_SECONDS = 30.0  # beyond what the running batch was expected to take
# After a failed allocation oneDNN may never make a kernel again (docs/notes/2026-11-25-batching.md). A server that
# fails eight batches in a row for want of memory, or nearly so, is better started anew.
FAILING_RATE, FAILING_LIMIT = 0.2, 0.8
STOP_SECONDS = 5.0  # for the last batch; requests have been waited for before


@dataclass(frozen=True)
class Computed:
    """``queue_seconds``: from submission to the end, less computing. ``batch_size``: texts of the last batch."""

    logits: np.ndarray
    queue_seconds: float
    compute_seconds: float
    batch_size: int


class Batcher:
    """``rates`` limits each tenant; None: no limit."""

    def __init__(
        self,
        *,
        compute: Compute,
        limits: Limits,
        cost: Cost,
        queue_limit: int,
        rates: RateLimits | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._compute = compute
        self._limits = limits
        self._cost = cost
        self._queue = Queue(limit=queue_limit)
        self._rates = rates
        self._observer = observer or Observer()
        self._changed = threading.Condition()
        self._busy_until = 0.0
        self._heartbeat = time.monotonic()
        self._failing = 0.0  # moving average: of batches, those of which nothing could be computed for want of memory
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end after what is queued; a stuck one is left behind."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(STOP_SECONDS)

    @property
    def depth(self) -> int:
        """Texts that wait."""
        with self._changed:
            return sum(waiting.texts for waiting in self._queue.waiting)

    def is_stuck(self) -> bool:
        """True when only a new process can help: the compute thread has died, hasn't come around for far longer than
        its batch should take, or fails batch after batch for want of memory.
        """
        with self._changed:
            if self._thread.ident is not None and not self._thread.is_alive() and not self._stopping:
                return True
            late = time.monotonic() > max(self._heartbeat, self._busy_until) + STUCK_SECONDS
            return late or self._failing > FAILING_LIMIT

    async def submit(self, tokens: Tokens, *, deadline: float, flow: Flow = Flow()) -> Computed:  # noqa: B008
        """Logits of the texts, in their order. ``deadline`` on time.monotonic(). Raises ShedError.

        Cancelling takes what hasn't started out of the queue. What still waits at its deadline is shed, also when the
        compute thread hangs.
        """
        arrival = time.monotonic()
        size = self._limits.maximum_batch_size
        groups = [tokens[i : i + size] for i in range(0, len(tokens), size)]
        pieces = [self._piece(group, arrival, deadline, flow) for group in groups]
        try:
            self._admit(pieces, now=arrival)
            expiry = asyncio.get_running_loop().call_later(deadline - arrival, self._expire, pieces)
            try:
                ran = [await pieces[0].done] if len(pieces) == 1 else await asyncio.gather(*(p.done for p in pieces))
            finally:
                expiry.cancel()
        except ShedError as error:
            self._observer.shed(error.reason)
            self._withdraw(pieces)
            raise
        except BaseException:  # failed or cancelled: the rest of the request isn't wanted either
            self._withdraw(pieces)
            raise
        compute_seconds = sum(part.ended - part.started for part in ran)
        return Computed(
            logits=ran[0].logits if len(ran) == 1 else np.concatenate([part.logits for part in ran]),
            queue_seconds=max(ran[-1].ended - arrival - compute_seconds, 0.0),
            compute_seconds=compute_seconds,
            batch_size=ran[-1].batch_size,
        )

    @staticmethod
    def _piece(tokens: Tokens, arrival: float, deadline: float, flow: Flow) -> Piece:
        loop = asyncio.get_running_loop()
        count = sum(len(text) for text in tokens)
        waiting = Waiting(texts=len(tokens), tokens=count, arrival=arrival, deadline=deadline, flow=flow)
        return Piece(tokens=tokens, waiting=waiting, loop=loop, done=loop.create_future())

    def _admit(self, pieces: list[Piece], *, now: float) -> None:
        """Raises ShedError for what can't be done in time, and RateLimitedError."""
        flow, deadline = pieces[0].waiting.flow, pieces[0].waiting.deadline
        with self._changed:
            if self._stopping:
                raise ShedError("the server is going down", retry_after_seconds=0.0, reason=ShedReason.STOPPING)
            if self.is_stuck():
                raise ShedError("the computation hangs or fails", retry_after_seconds=0.0, reason=ShedReason.STUCK)
            self._check_rate(flow, texts=sum(piece.waiting.texts for piece in pieces), now=now)
            finish = self._expected_finish(pieces, now=now)
            if finish > deadline:
                raise ShedError(
                    f"would take {finish - now:.3f} s, the deadline is in {deadline - now:.3f} s",
                    retry_after_seconds=finish - deadline,
                    reason=ShedReason.DEADLINE,
                )
            victims = self._queue.victims(len(pieces), by=flow)
            if victims is None:
                raise ShedError("the queue is full", retry_after_seconds=finish - now, reason=ShedReason.QUEUE)
            deliver([(victim, _displaced(finish - now)) for victim in self._queue.remove(victims)])
            self._queue.add(pieces, cost=self._cost)
            self._changed.notify_all()

    def _expected_finish(self, pieces: list[Piece], *, now: float) -> float:
        """Of the last of them."""
        tokens = sum(piece.waiting.tokens for piece in pieces)
        before = self._cost.seconds(tokens=tokens - pieces[-1].waiting.tokens, batches=len(pieces) - 1)
        total = replace(
            pieces[0].waiting,
            texts=sum(piece.waiting.texts for piece in pieces),
            tokens=tokens,
            turn=self._queue.turns.next(pieces[0].waiting.flow, after_seconds=before),
        )
        return expected_finish(
            total, self._queue.waiting, now=now, busy_until=self._busy_until, limits=self._limits, cost=self._cost
        )

    def _check_rate(self, flow: Flow, *, texts: int, now: float) -> None:
        if self._rates is not None and (wait := self._rates.take(flow.tenant, texts=texts, now=now)):
            raise RateLimitedError(texts_per_second=self._rates.texts_per_second, retry_after_seconds=wait)

    def _withdraw(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            piece.done.cancel()
        with self._changed:
            if self._queue.remove(pieces):
                self._changed.notify_all()

    def _expire(self, pieces: list[Piece]) -> None:
        with self._changed:
            late = self._queue.remove(pieces)
        deliver([(piece, _late()) for piece in late])

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            self._run_batch(batch)

    def _next_batch(self) -> list[Piece] | None:
        """Waits for a batch; None when stopped and nothing is left."""
        with self._changed:
            while True:
                now = self._heartbeat = time.monotonic()
                decision = decide(self._queue.waiting, now=now, limits=self._limits, cost=self._cost)
                late, batch = self._queue.pick(decision)
                deliver([(piece, _late()) for piece in late])
                if batch:
                    self._busy_until = now + self._cost.seconds(tokens=sum(piece.waiting.tokens for piece in batch))
                    return batch
                if self._stopping and not self._queue:
                    return None
                until = decision.wait_until
                self._changed.wait(IDLE_TICK_SECONDS if until is None else min(until - now, IDLE_TICK_SECONDS))

    def _run_batch(self, batch: list[Piece]) -> None:
        texts = [text for piece in batch for text in piece.tokens]
        execution = execute(self._compute, texts)
        results: list[tuple[Piece, Ran | Exception]] = []
        first = 0
        for piece in batch:
            last = first + piece.waiting.texts
            result = execution.of(first, last)
            if isinstance(result, Exception) and is_out_of_memory(result):
                result = ShedError("it takes too much memory", retry_after_seconds=1.0, reason=ShedReason.MEMORY)
            results.append((piece, result))
            first = last
        deliver(results)
        self._learn(execution, texts)

    def _learn(self, execution: Execution, texts: Tokens) -> None:
        for fault in execution.faults:
            self._observer.fault(out_of_memory=is_out_of_memory(fault))
        with self._changed:
            self._failing += FAILING_RATE * (execution.nothing_for_want_of_memory - self._failing)
            if execution.seconds is not None:
                self._cost = self._cost.after(tokens=sum(len(text) for text in texts), seconds=execution.seconds)
        self._observer.batch(texts=len(texts), seconds=execution.parts[-1].ended - execution.started)


def _displaced(retry_after_seconds: float) -> ShedError:
    return ShedError(
        "the queue is full and most of it is its tenant's",
        retry_after_seconds=retry_after_seconds,
        reason=ShedReason.DISPLACED,
    )


def _late() -> ShedError:
    return ShedError("its deadline can't be met any more", retry_after_seconds=0.0, reason=ShedReason.LATE)
