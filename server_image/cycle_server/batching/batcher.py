"""The queue before the compute thread, and that thread. The thread itself closes batches: no hand-over between two.

Several processes that compute have a thread each (lane.py), which all take from the one queue.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cycle_server.batching.cost import Cost
from cycle_server.batching.errors import RateLimitedError, ShedError, ShedReason, displaced, late, lost
from cycle_server.batching.execution import (
    Compute,
    ComputeLostError,
    Execution,
    Ran,
    execute,
    is_out_of_memory,
)
from cycle_server.batching.lane import Lane, Process
from cycle_server.batching.observer import Observer
from cycle_server.batching.policy import Flow, Limits, Waiting, decide, expected_finish
from cycle_server.batching.queue import Piece, Queue, deliver
from cycle_server.batching.rate import RateLimits
from cycle_server.items import Items
from cycle_server.process import name_compute_thread

__all__ = ["Batcher", "Compute", "Computed", "RateLimitedError", "ShedError"]

IDLE_TICK_SECONDS = 1.0
STUCK_SECONDS = 30.0  # beyond what the running batch was expected to take
RENEW_PAUSE_SECONDS = 2.0  # between attempts to start a process that fails to start
STOP_SECONDS = 5.0  # for the last batch; requests have been waited for before

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Computed:
    """``queue_seconds``: from submission to the end, less computing. ``batch_size``: texts of the last batch."""

    logits: np.ndarray
    queue_seconds: float
    compute_seconds: float
    batch_size: int


class Batcher:
    """``compute``: a function for the compute thread, or processes that compute. ``rates`` limits each tenant; None: no
    limit.
    """

    def __init__(
        self,
        *,
        compute: Compute | Sequence[Process],
        limits: Limits,
        cost: Cost,
        queue_limit: int,
        rates: RateLimits | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._limits = limits
        self._cost = cost
        self._queue: Queue[Piece] = Queue(limit=queue_limit)
        self._rates = rates
        self._observer = observer or Observer()
        self._changed = threading.Condition()
        self._stopping = False
        self._lanes = [Lane(one) for one in (compute if isinstance(compute, Sequence) else [compute])]
        for lane in self._lanes:
            lane.thread = threading.Thread(target=self._run, args=(lane,), name="compute", daemon=True)

    def start(self) -> None:
        for lane in self._lanes:
            lane.heartbeat = time.monotonic()
            lane.thread.start()
        self._count_processes(has_lost=False)

    def stop(self) -> None:
        """Let the threads end after what is queued; a stuck one is left behind."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        until = time.monotonic() + STOP_SECONDS
        for lane in self._lanes:
            lane.thread.join(max(until - time.monotonic(), 0.0))

    @property
    def depth(self) -> int:
        """Texts that wait."""
        with self._changed:
            return sum(waiting.texts for waiting in self._queue.waiting)

    def is_stuck(self) -> bool:
        """True when nothing computes any more and only a new process can help: every compute thread has died, hasn't
        come around for far longer than its batch should take, fails batch after batch for want of memory, or has lost
        its process and got no other yet.
        """
        with self._changed:
            return not self._stopping and not self._useful(time.monotonic())

    def _useful(self, now: float) -> list[Lane]:
        return [lane for lane in self._lanes if not lane.is_stuck(now=now, after_seconds=STUCK_SECONDS)]

    async def submit(self, tokens: Items, *, deadline: float, flow: Flow = Flow()) -> Computed:  # noqa: B008
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
    def _piece(tokens: Items, arrival: float, deadline: float, flow: Flow) -> Piece:
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
            deliver([(victim, displaced(finish - now)) for victim in self._queue.remove(victims)])
            self._queue.add(pieces, cost=self._cost)
            self._changed.notify(len(pieces))

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
        free = [max(lane.busy_until, now) for lane in self._useful(now)]
        return expected_finish(total, self._queue.waiting, free=free, limits=self._limits, cost=self._cost)

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
            expired = self._queue.remove(pieces)
        deliver([(piece, late()) for piece in expired])

    def _run(self, lane: Lane) -> None:
        name_compute_thread()
        while (batch := self._next_batch(lane)) is not None:
            try:
                self._run_batch(lane, batch)
                if not (lane.is_failing and isinstance(lane.computes, Process)):
                    continue
            except ComputeLostError:
                logger.exception("a process is gone with a batch of %d", len(batch))
                self._again(batch)
            self._renew(lane)

    def _next_batch(self, lane: Lane) -> list[Piece] | None:
        """Waits for a batch; None when stopped and nothing is left."""
        with self._changed:
            lane.busy_until = 0.0
            while True:
                now = lane.heartbeat = time.monotonic()
                others = [max(other.busy_until, now) for other in self._useful(now) if other is not lane]
                decision = decide(self._queue.waiting, now=now, limits=self._limits, cost=self._cost, others=others)
                dropped, batch = self._queue.pick(decision)
                deliver([(piece, late()) for piece in dropped])
                if batch:
                    lane.busy_until = now + self._cost.seconds(tokens=sum(piece.waiting.tokens for piece in batch))
                    return batch
                if self._stopping and not self._queue:
                    return None
                until = decision.wait_until
                self._changed.wait(IDLE_TICK_SECONDS if until is None else min(until - now, IDLE_TICK_SECONDS))

    def _run_batch(self, lane: Lane, batch: list[Piece]) -> None:
        texts = [text for piece in batch for text in piece.tokens]
        expected = max(lane.busy_until - time.monotonic(), 0.0)
        execution = execute(lane.compute(limit_seconds=expected + STUCK_SECONDS), texts)
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
        self._learn(lane, execution, texts)

    def _learn(self, lane: Lane, execution: Execution, texts: Items) -> None:
        for fault in execution.faults:
            self._observer.fault(out_of_memory=is_out_of_memory(fault))
        with self._changed:
            lane.count_failure(failed=execution.nothing_for_want_of_memory)
            if execution.seconds is not None:
                self._cost = self._cost.after(tokens=sum(len(text) for text in texts), seconds=execution.seconds)
        self._observer.batch(texts=len(texts), seconds=execution.parts[-1].ended - execution.started)

    def _again(self, batch: list[Piece]) -> None:
        """Another process may compute it; but what was there when two died may well be the reason."""
        again = [piece for piece in batch if not piece.lost_once]
        deliver([(piece, lost()) for piece in batch if piece.lost_once])
        for piece in again:
            piece.lost_once = True
        with self._changed:
            self._queue.put_back([piece for piece in again if not piece.done.done()])
            self._changed.notify_all()

    def _renew(self, lane: Lane) -> None:
        """Until it has a process again, or the server stops."""
        assert isinstance(lane.computes, Process)
        with self._changed:
            lane.lost = True
        self._count_processes(has_lost=True)
        while not self._stopping:
            try:
                lane.computes.renew()
                break
            except ComputeLostError:
                logger.exception("a process that should compute doesn't start")
                time.sleep(RENEW_PAUSE_SECONDS)
        with self._changed:
            lane.lost, lane.failing, lane.heartbeat = False, 0.0, time.monotonic()
        self._count_processes(has_lost=False)

    def _count_processes(self, *, has_lost: bool) -> None:
        if isinstance(self._lanes[0].computes, Process):
            self._observer.processes(sum(not lane.lost for lane in self._lanes), lost=has_lost)
