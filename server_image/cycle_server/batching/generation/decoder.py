"""The decoding thread: one step after the other for all sequences under way, newcomers between two steps."""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence as Several
from typing import Any, Protocol

from cycle_server.batching.cost import Cost
from cycle_server.batching.errors import RateLimitedError, ShedError, ShedReason, displaced, late
from cycle_server.batching.execution import is_out_of_memory
from cycle_server.batching.generation.blocks import Blocks
from cycle_server.batching.generation.observer import GenerationObserver
from cycle_server.batching.generation.places import Places
from cycle_server.batching.generation.plan import Asked, admit, expected_first_token
from cycle_server.batching.generation.sequence import End, Event, Finish, Prompt, Sequence, Stream, Token, deliver
from cycle_server.batching.policy import Flow
from cycle_server.batching.queue import Queue
from cycle_server.batching.rate import RateLimits
from cycle_server.engine.causal.request import BLOCK_TOKENS, Chunk, Sampling
from cycle_server.process import name_compute_thread

logger = logging.getLogger(__name__)

IDLE_TICK_SECONDS = 1.0
STUCK_SECONDS = 30.0  # beyond what the running step was expected to take
FAILING_RATE, FAILING_LIMIT = 0.2, 0.8  # as the batcher's
STOP_SECONDS = 5.0
LENGTH_RATE = 0.05  # how fast the share of the asked tokens that answers have is learned


class Steps(Protocol):
    """What the thread needs of an engine: see CausalEngine."""

    @property
    def blocks(self) -> int: ...

    @property
    def end_tokens(self) -> frozenset[int]: ...

    def sampler(self, sampling: Sampling, /) -> Any: ...

    def advance(self, chunks: Several[Chunk], samplers: Several[Any], /) -> Several[int | ArithmeticError | None]: ...


class Decoder:
    """At most ``sequences`` are under way at once, and ``queue_limit`` wait. ``rates`` None: no limit of tenants."""

    def __init__(
        self,
        *,
        engine: Steps,
        sequences: int,
        cost: Cost,
        queue_limit: int,
        rates: RateLimits | None = None,
        observer: GenerationObserver | None = None,
    ) -> None:
        self._engine = engine
        self._cost = cost
        self._queue: Queue[Sequence] = Queue(limit=queue_limit)
        self._rates = rates
        self._observer = observer or GenerationObserver()
        self._places = Places(sequences, blocks=Blocks(count=engine.blocks, tokens=BLOCK_TOKENS))
        self._changed = threading.Condition()
        self._heartbeat = time.monotonic()
        self._busy_until = 0.0
        self._failing = 0.0
        self._length_share = 1.0  # of the tokens that were asked for, how many answers have
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end after what is under way; a stuck one is left behind."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(STOP_SECONDS)

    @property
    def depth(self) -> int:
        """Sequences that wait."""
        with self._changed:
            return len(self._queue) + len(self._places.preempted)

    @property
    def running(self) -> int:
        return len(self._places.running)

    @property
    def used_blocks(self) -> int:
        return self._places.blocks.used

    @property
    def blocks(self) -> int:
        return self._places.blocks.count

    def is_stuck(self) -> bool:
        """True when only a new process can help, as the batcher's."""
        with self._changed:
            if self._thread.ident is not None and not self._thread.is_alive() and not self._stopping:
                return True
            late = time.monotonic() > max(self._heartbeat, self._busy_until) + STUCK_SECONDS
            return late or self._failing > FAILING_LIMIT

    def submit(self, prompts: Several[Prompt], *, deadline: float, flow: Flow = Flow()) -> list[Stream]:  # noqa: B008
        """On the event loop. ``deadline`` on time.monotonic(): for the first token of each; who has begun is finished.

        Raises ShedError; so do the streams, when waiting was in vain.
        """
        now = time.monotonic()
        sequences = [self._sequence(prompt, now, deadline, flow) for prompt in prompts]
        try:
            self._admit(sequences, now=now)
        except ShedError as error:
            self._observer.shed(error.reason)
            raise
        loop = asyncio.get_running_loop()
        for sequence in sequences:
            sequence.stream.expires(loop.call_later(max(deadline - now, 0), self._expire, sequence))
        return [sequence.stream for sequence in sequences]

    def _sequence(self, prompt: Prompt, now: float, deadline: float, flow: Flow) -> Sequence:
        length = len(prompt.tokens)
        work = length + max(round(prompt.new_tokens * self._length_share), 1)
        waiting = Asked(texts=1, tokens=work, arrival=now, deadline=deadline, flow=flow, prompt=length)
        sequence = Sequence(
            prompt=prompt,
            waiting=waiting,
            loop=asyncio.get_running_loop(),
            sampler=self._engine.sampler(prompt.sampling),
        )
        sequence.stream = Stream(close=lambda: self._leave(sequence))
        return sequence

    def _admit(self, sequences: Several[Sequence], *, now: float) -> None:
        flow, deadline = sequences[0].waiting.flow, sequences[0].waiting.deadline
        with self._changed:
            if self._stopping:
                raise ShedError("the server is going down", retry_after_seconds=0.0, reason=ShedReason.STOPPING)
            if self.is_stuck():
                raise ShedError("the computation hangs or fails", retry_after_seconds=0.0, reason=ShedReason.STUCK)
            self._check_rate(flow, count=len(sequences), now=now)
            first_token = self._expected_first_token(sequences, now=now)
            if first_token > deadline:
                raise ShedError(
                    f"the first token would take {first_token - now:.3f} s, the deadline is in {deadline - now:.3f} s",
                    retry_after_seconds=first_token - deadline,
                    reason=ShedReason.DEADLINE,
                )
            victims = self._queue.victims(len(sequences), by=flow)
            if victims is None:
                raise ShedError("the queue is full", retry_after_seconds=first_token - now, reason=ShedReason.QUEUE)
            self._refuse(self._queue.remove(victims), displaced(first_token - now))
            self._queue.add(sequences, cost=self._cost)
            self._changed.notify_all()

    def _expected_first_token(self, sequences: Several[Sequence], *, now: float) -> float:
        """Of the last of them, which come one after the other."""
        first = sequences[0].waiting
        new = Asked(
            texts=1,
            tokens=sum(sequence.asked.tokens for sequence in sequences),
            arrival=first.arrival,
            deadline=first.deadline,
            turn=self._queue.turns.next(first.flow),
            flow=first.flow,
            prompt=sum(sequence.asked.prompt for sequence in sequences),
        )
        under_way = [*self._places.running, *self._places.preempted]
        remaining = [max(round(sequence.left * self._length_share), 1) for sequence in under_way]
        waiting = [sequence.asked for sequence in self._queue.items]
        return expected_first_token(new, waiting, remaining, places=self._places.count, now=now, cost=self._cost)

    def _check_rate(self, flow: Flow, *, count: int, now: float) -> None:
        if self._rates is not None and (wait := self._rates.take(flow.tenant, texts=count, now=now)):
            raise RateLimitedError(texts_per_second=self._rates.texts_per_second, retry_after_seconds=wait)

    def _refuse(self, sequences: Several[Sequence], error: ShedError) -> None:
        for _ in sequences:
            self._observer.shed(error.reason)
        deliver([(sequence, error) for sequence in sequences])

    def _leave(self, sequence: Sequence) -> None:
        """Its client has gone, or has enough. On any thread."""
        sequence.gone = True
        with self._changed:
            self._queue.remove([sequence])
            self._changed.notify_all()

    def _expire(self, sequence: Sequence) -> None:
        """Also when the thread hangs."""
        with self._changed:
            expired = self._queue.remove([sequence])
        self._refuse([one for one in expired if not one.gone], late())

    def _run(self) -> None:
        name_compute_thread()
        while self._wait_for_work():
            self._step()

    def _wait_for_work(self) -> bool:
        """Takes newcomers in and lets the gone ones go; False when stopped and nothing is left."""
        with self._changed:
            while True:
                now = self._heartbeat = time.monotonic()
                self._places.let_go()
                self._take_in(now)
                if self._places.running:
                    return True
                if self._stopping and not self._queue:
                    return False
                self._changed.wait(IDLE_TICK_SECONDS)

    def _take_in(self, now: float) -> None:
        self._places.resume()
        decision = admit(
            [sequence.asked for sequence in self._queue.items], now=now, room=self._places.room(), cost=self._cost
        )
        dropped, joining = self._queue.pick(decision)
        self._refuse(dropped, late())
        for sequence in joining:
            sequence.started = now
            self._places.join(sequence)

    def _step(self) -> None:
        with self._changed:
            part, preempted = self._places.step()
            tokens = sum(count for _, count in part)
            self._busy_until = time.monotonic() + self._cost.seconds(tokens=tokens)
        self._observer.preempted(preempted)
        self._compute(part)

    def _compute(self, part: Several[tuple[Sequence, int]]) -> None:
        chunks = [Chunk(tokens=s.tokens(s.computed, count), position=s.computed, blocks=s.blocks) for s, count in part]
        samplers = [s.sampler if s.computed + count == s.length else None for s, count in part]
        started = time.monotonic()
        try:
            tokens = self._engine.advance(chunks, samplers)
        except Exception as error:  # noqa: BLE001 - one bad step must not end the thread; a sequence is told
            logger.exception("a step of %d sequences failed", len(part))
            self._fail(part, error.with_traceback(None))
            return
        ended = time.monotonic()
        events: list[tuple[Sequence, Event]] = []
        for (sequence, count), token in zip(part, tokens, strict=True):
            sequence.computed += count
            if token is not None:
                events += [(sequence, event) for event in self._advanced(sequence, token, at=ended)]
        deliver(events)
        computed = sum(count for _, count in part)
        self._learn(
            [sequence for sequence, event in events if not isinstance(event, Token)],
            tokens=computed,
            seconds=ended - started,
        )
        self._observer.step(sequences=len(part), tokens=computed, seconds=ended - started)

    def _advanced(self, sequence: Sequence, token: int | ArithmeticError, *, at: float) -> list[Event]:
        if isinstance(token, ArithmeticError):
            return [token]
        assert sequence.started is not None
        if token in self._engine.end_tokens:
            return [End(Finish.STOP, started=sequence.started, at=at)]
        sequence.generated.append(token)
        made = Token(token, started=sequence.started, at=at)
        return [made] if sequence.left > 0 else [made, End(Finish.LENGTH, started=sequence.started, at=at)]

    def _learn(self, ended: Several[Sequence], *, tokens: int, seconds: float) -> None:
        with self._changed:
            self._failing -= FAILING_RATE * self._failing
            self._cost = self._cost.after(tokens=tokens, seconds=seconds)
            for sequence in ended:
                share = max(len(sequence.generated), 1) / sequence.prompt.new_tokens
                self._length_share += LENGTH_RATE * (min(share, 1.0) - self._length_share)
            self._places.release(ended)

    def _fail(self, part: Several[tuple[Sequence, int]], error: Exception) -> None:
        """Who joined last is given up, and the others try again without it: nothing of theirs is lost."""
        out_of_memory = is_out_of_memory(error)
        self._observer.fault(out_of_memory=out_of_memory)
        beginners = [s for s, count in part if s.computed + count < s.length or not s.generated]
        given_up = beginners or [part[-1][0]]
        with self._changed:
            self._failing += FAILING_RATE * (out_of_memory - self._failing)
            self._places.release(given_up)
        if out_of_memory:
            self._refuse(
                given_up, ShedError("it takes too much memory", retry_after_seconds=1.0, reason=ShedReason.MEMORY)
            )
        else:
            deliver([(sequence, error) for sequence in given_up])
