"""The way of a request for text that all protocols share: read, wait for a place, decode, tell it."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from typing import Protocol, TypeVar

from aiohttp import web

from cycle_server.batching.errors import ShedError
from cycle_server.batching.generation.sequence import Finish, Prompt
from cycle_server.engine.causal.request import ChatError
from cycle_server.protocol.errors import ProtocolError
from cycle_server.protocol.generation import Usage, Wishes, event
from cycle_server.protocol.timing import server_headers
from cycle_server.server.answering import INLINE_BYTES, Answerer, Call
from cycle_server.server.generator import Generator
from cycle_server.server.speech import Speech
from cycle_server.tracing import begun

logger = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"
NOT_TO_KEEP = {"Cache-Control": "no-store"}  # of drawn answers: each differs

Content = TypeVar("Content")


@dataclass(frozen=True)
class Text:
    text: str
    finish: Finish
    usage: Usage


class Events(Protocol):
    """How a protocol tells an answer as it comes."""

    def begin(self) -> Sequence[bytes]: ...

    def piece(self, text: str, /) -> Sequence[bytes]: ...

    def end(self, *, finish: str, usage: Usage) -> Sequence[bytes]: ...


@dataclass(frozen=True)
class Reading:
    """What a protocol read: prompts as tokens, each with the field it came from."""

    prompts: Sequence[tuple[str, list[int]]]
    wishes: Wishes


class Generating:
    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    async def whole(
        self,
        call: Call,
        read: Callable[[Generator], Reading],
        write: Callable[[Sequence[Text]], Content],
    ) -> tuple[Content, dict[str, str]]:
        """The answer and its headers. Raises ProtocolError, or ShedError when it can't begin in time."""
        with begun(self._answerer.tracing, "generate", call.headers) as span, ExitStack() as closing:
            speeches, headers = await self._begin(call, read, closing)
            texts = [Text(await speech.whole(), speech.finish, speech.usage) for speech in speeches]
            call.watch.lap("queue", of_which=_computing(speeches))
            content = write(texts)
            call.watch.lap("post")
            self._answerer.observe(call)
            if span:
                span.end(status=200, terms=call.watch.terms, attributes=_counted(speeches))
            return content, {**headers, **server_headers(call.watch.terms)}

    async def streamed(
        self,
        call: Call,
        http_request: web.Request,
        read: Callable[[Generator], Reading],
        events: Events,
    ) -> web.StreamResponse:
        """As server-sent events. What goes wrong before the first piece is raised as by ``whole``.

        Server-Timing is of the first piece, the metrics are of the whole answer. A client that goes away cancels this,
        and with it the sequence.
        """
        with begun(self._answerer.tracing, "generate", call.headers) as span, ExitStack() as closing:
            (speech,), headers = await self._begin(call, read, closing)
            async with aclosing(speech.pieces()) as pieces:
                first = await anext(pieces, "")
                terms = call.watch.so_far("queue", of_which=_computing([speech]))
                response = web.StreamResponse(
                    headers={**headers, **server_headers(terms), "Content-Type": EVENT_STREAM}
                )
                await response.prepare(http_request)
                await response.write(b"".join([*events.begin(), *(events.piece(first) if first else [])]))
                try:
                    async for piece in pieces:
                        await response.write(b"".join(events.piece(piece)))
                except (ShedError, ArithmeticError, RuntimeError) as error:
                    logger.warning("an answer broke off: %s", error)
                    await response.write(_broken(error))
                    return response
            await response.write(b"".join(events.end(finish=speech.finish, usage=speech.usage)))
            call.watch.lap("queue", of_which=_computing([speech]))
            call.watch.lap("post")
            self._answerer.observe(call)
            if span:
                span.end(status=200, terms=call.watch.terms, attributes=_counted([speech]))
            return response

    async def _begin(
        self, call: Call, read: Callable[[Generator], Reading], closing: ExitStack
    ) -> tuple[list[Speech], dict[str, str]]:
        model = self._answerer.generator()
        flow, deadline = self._answerer.terms_of(call)
        reading = read(model) if call.size_bytes <= INLINE_BYTES else await asyncio.to_thread(read, model)
        prompts = [_prompt(model, field, tokens, reading.wishes) for field, tokens in reading.prompts]
        call.watch.lap("pre")
        streams = model.batcher.submit(prompts, deadline=deadline, flow=flow)
        for stream in streams:
            closing.callback(stream.close)
        speeches = [
            Speech(model, stream, prompt_tokens=len(prompt.tokens), stops=reading.wishes.stops, arrived=call.arrived)
            for stream, prompt in zip(streams, prompts, strict=True)
        ]
        return speeches, {} if reading.wishes.sampling.deterministic else NOT_TO_KEEP


def encoded_chat(model: Generator, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Raises ProtocolError when the model's chat template refuses them, or there is none."""
    try:
        return model.engine.encode_chat(messages)
    except ChatError as error:
        raise ProtocolError(str(error), field="messages") from error


def _prompt(model: Generator, field: str, tokens: list[int], wishes: Wishes) -> Prompt:
    """Raises ProtocolError when it leaves no room for an answer."""
    room = model.engine.maximum_tokens - len(tokens)
    if room < 1:
        raise ProtocolError(
            f"has {len(tokens)} tokens, the model reads {model.engine.maximum_tokens - 1} and one of the answer",
            field=field,
        )
    return Prompt(tokens=tokens, new_tokens=min(wishes.new_tokens or room, room), sampling=wishes.sampling)


def _computing(speeches: Sequence[Speech]) -> dict[str, float]:
    return {"compute": max(speech.computing_seconds for speech in speeches)}


def _counted(speeches: Sequence[Speech]) -> dict[str, str | int]:
    return {
        "cycle.prompt.tokens": sum(speech.usage.prompt for speech in speeches),
        "cycle.answer.tokens": sum(speech.usage.answer for speech in speeches),
    }


def _broken(error: Exception) -> bytes:
    """The last event of an answer that broke off: no [DONE] follows."""
    message = f"the answer broke off: {error}"
    return event({"error": {"message": message, "type": "server_error", "param": None, "code": None}})
