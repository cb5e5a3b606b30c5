"""One sequence that is generated: what was asked, how far it is, and the way of its tokens to the event loop."""

import asyncio
from collections.abc import Callable
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from enum import StrEnum

from cycle_server.batching.generation.plan import Asked, Progress
from cycle_server.batching.policy import Waiting
from cycle_server.engine.causal.request import Sampling


class Finish(StrEnum):
    """As OpenAI calls them."""

    STOP = "stop"  # the model ended its answer, or a stop text came
    LENGTH = "length"  # as many tokens as were asked for, or as fit


@dataclass(frozen=True)
class Prompt:
    """``tokens``: never empty. ``new_tokens``: at most so many; prompt and answer fit the model together."""

    tokens: Tokens[int]
    new_tokens: int
    sampling: Sampling = Sampling()


@dataclass(frozen=True)
class Token:
    """``started``: when its sequence first took part in a step; ``at``: when it was made; both on time.monotonic()."""

    id: int
    started: float
    at: float


@dataclass(frozen=True)
class End:
    """``started`` and ``at`` as a token's."""

    finish: Finish
    started: float
    at: float


Event = Token | End | Exception


class Stream:
    """A sequence's events; all of it on the event loop. Close it: what nobody reads isn't computed."""

    def __init__(self, *, close: Callable[[], None]) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._close = close
        self._expiry: asyncio.TimerHandle | None = None

    def expires(self, timer: asyncio.TimerHandle) -> None:
        """``timer`` is for who waits: the first event, or closing, cancels it. Else it keeps the sequence till then."""
        self._expiry = timer

    async def next(self) -> Token | End:
        """Raises ShedError, or what the computation raised."""
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event

    def put(self, event: Event) -> None:
        self._cancel_expiry()
        self._events.put_nowait(event)

    def close(self) -> None:
        self._cancel_expiry()
        self._close()

    def _cancel_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None


@dataclass(eq=False)
class Sequence:
    """Owned by the decoding thread but for ``gone``, which anybody may set."""

    prompt: Prompt
    waiting: Waiting  # an Asked, with its turn
    loop: asyncio.AbstractEventLoop
    sampler: object  # the engine's own
    stream: Stream = field(init=False)
    generated: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    started: float | None = None
    gone: bool = False

    @property
    def asked(self) -> Asked:
        assert isinstance(self.waiting, Asked)
        return self.waiting

    @property
    def length(self) -> int:
        return len(self.prompt.tokens) + len(self.generated)

    @property
    def left(self) -> int:
        return self.prompt.new_tokens - len(self.generated)

    def progress(self) -> Progress:
        return Progress(tokens=self.length, computed=self.computed, blocks=len(self.blocks))

    def tokens(self, first: int, count: int) -> list[int]:
        prompt = self.prompt.tokens
        own = len(prompt)
        if first >= own:
            return self.generated[first - own : first - own + count]
        return [*prompt[first : first + count], *self.generated[: max(first + count - own, 0)]]


def deliver(events: Tokens[tuple[Sequence, Event]]) -> None:
    """May be called on any thread. Wakes each loop once (as batching.queue.deliver does, for the same reason)."""
    for loop in dict.fromkeys(sequence.loop for sequence, _ in events):
        own = [(sequence.stream, event) for sequence, event in events if sequence.loop is loop]
        loop.call_soon_threadsafe(_put_all, own)


def _put_all(events: Tokens[tuple[Stream, Event]]) -> None:
    for stream, event in events:
        stream.put(event)
