"""The text of one sequence as it comes: tokens made into text, cut at stop texts, counted and timed."""

from collections.abc import AsyncGenerator, Sequence

from cycle_server.batching.generation.sequence import End, Finish, Stream, Token
from cycle_server.protocol.generation import Usage
from cycle_server.protocol.stops import Stops
from cycle_server.server.generator import Generator


class Speech:
    """``finish`` and ``computing_seconds`` are known at the end; ``usage`` counts up."""

    def __init__(
        self, model: Generator, stream: Stream, *, prompt_tokens: int, stops: Sequence[str], arrived: float
    ) -> None:
        self._metrics = model.metrics
        self._stream = stream
        self._detokenizer = model.engine.detokenizer()
        self._stops = Stops(stops)
        self._prompt_tokens = prompt_tokens
        self._arrived = arrived  # on time.monotonic()
        self._last: Token | None = None
        self._tokens = 0
        self.finish = Finish.LENGTH
        self.computing_seconds = 0.0
        model.metrics.prompted.inc(prompt_tokens)

    @property
    def usage(self) -> Usage:
        return Usage(prompt=self._prompt_tokens, answer=self._tokens)

    async def pieces(self) -> AsyncGenerator[str, None]:
        """None of them empty. Raises ShedError, or what the computation raised."""
        try:
            while not self._stops.hit:
                event = await self._stream.next()
                self.computing_seconds = event.at - event.started
                if isinstance(event, End):
                    self.finish = event.finish
                    rest = self._stops.feed(self._detokenizer.rest())
                    text = rest + self._stops.rest()
                else:
                    self._count(event)
                    text = self._stops.feed(self._detokenizer.add(event.id))
                if self._stops.hit:
                    self.finish = Finish.STOP
                if text:
                    yield text
                if isinstance(event, End):
                    return
        finally:
            self._stream.close()

    async def whole(self) -> str:
        return "".join([piece async for piece in self.pieces()])

    def _count(self, token: Token) -> None:
        self._tokens += 1
        self._metrics.generated.inc()
        if self._last is None:
            self._metrics.first_token.observe(token.at - self._arrived)
        else:
            self._metrics.per_token.observe(token.at - self._last.at)
        self._last = token
