"""The connections: plain requests to infer are read and answered here, all else goes to aiohttp.

A hit costs some 20 us here and five times as much through a web framework, which is most of what a hit costs. So this
reads (with llhttp, through httptools) only what a balancer sends all day: one whole HTTP/1.1 POST to infer after the
other. The first thing that is anything else (another path, a chunked body, Expect, pipelining, too long, malformed)
hands the connection over to aiohttp for good, with every byte of the request that was not answered yet.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

import httptools

from cycle_server.drain import Drain
from cycle_server.protocol import v2
from cycle_server.sidecar.responder import Asked, Reply, Responder
from cycle_server.sidecar.upstream import FORWARDED_HEADERS
from cycle_wire.headers import CACHE_HEADER, TENANT_HEADER

logger = logging.getLogger(__name__)

LONGEST_HEAD_BYTES = 16 * 1024
IDLE_SECONDS = 75.0
_KEPT_HEADERS = {name.lower().encode() for name in (*FORWARDED_HEADERS, "Cache-Control", CACHE_HEADER, TENANT_HEADER)}
_UNUSUAL_HEADERS = {b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"http2-settings"}
_INFER = re.compile(rb"/v2/models/[\w.~%-]+(/versions/[\w.~%-]+)?/infer")
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Front(asyncio.Protocol):
    """One connection. ``fallback`` makes aiohttp's protocol for one."""

    def __init__(
        self,
        responder: Responder,
        *,
        fallback: Callable[[], asyncio.Protocol],
        connections: set["Front"],
        drain: Drain,
    ) -> None:
        self._responder = responder
        self._fallback = fallback
        self._connections = connections
        self._drain = drain
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[None] | None = None
        self._early = b""  # came while the request before is being answered
        self._choked = False  # the client doesn't read what it was sent
        self._idle: asyncio.TimerHandle | None = None
        self._last = self._loop.time()
        self._begin()

    def _begin(self) -> None:
        """Before the first byte of a request."""
        self._raw: list[bytes] = []
        self._raw_bytes = 0
        self._path = b""
        self._head_bytes = 0
        self._head_is_whole = False
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._begun = 0
        self._whole = False
        self._unusual = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._connections.add(self)
        self._idle = self._loop.call_later(IDLE_SECONDS, self._close_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._leave()
        if self._task is not None:
            self._task.cancel()  # who asked is gone

    def data_received(self, data: bytes) -> None:
        if self._task is not None:
            self._early += data
            self._transport.pause_reading()
            return
        self._last = self._loop.time()
        self._raw.append(data)
        self._raw_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._unusual = True
        longest = LONGEST_HEAD_BYTES + (v2.MAXIMUM_BODY_BYTES if self._head_is_whole else 0)
        if self._unusual or self._begun > 1 or self._raw_bytes > longest:
            self._hand_over()
        elif self._whole:
            self._serve()

    def pause_writing(self) -> None:
        self._choked = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._choked = False
        self._go_on()

    # httptools' side

    def on_message_begin(self) -> None:
        self._begun += 1

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        lower = name.lower()
        if lower in _KEPT_HEADERS:
            key = lower.decode("ascii")
            self._unusual |= key in self._headers or not value.isascii()
            self._headers[key] = value.decode("latin-1")
        elif lower in _UNUSUAL_HEADERS:
            self._unusual = True

    def on_headers_complete(self) -> None:
        parser = self._parser
        self._head_is_whole = True
        plain = parser.get_method() == b"POST" and parser.get_http_version() == "1.1" and parser.should_keep_alive()
        self._unusual |= not plain or self._head_bytes > LONGEST_HEAD_BYTES or not _INFER.fullmatch(self._path)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._whole = True

    # ours

    def _serve(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        asked = Asked(path=self._path.decode("ascii"), headers=self._headers, body=body)
        with self._drain:
            reply = self._responder.at_once(asked)
        if reply is not None:
            self._begin()
            self._write(reply)
        else:
            self._task = self._loop.create_task(self._answer(asked))

    async def _answer(self, asked: Asked) -> None:
        try:
            with self._drain:
                reply = await self._responder.reply(asked)
                self._begin()
                self._task = None
                self._last = self._loop.time()
                self._write(reply)
        except Exception:
            logger.exception("a request was not answered")
            self._transport.abort()
        else:
            self._go_on()

    def _go_on(self) -> None:
        """With what came early, and with reading, when there is nothing to wait for."""
        if self._task is not None or self._choked or self._transport.is_closing():
            return
        self._transport.resume_reading()
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    def _write(self, reply: Reply) -> None:
        lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, '')}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        lines.append(f"Content-Length: {len(reply.body)}\r\nDate: {_date(self._loop.time())}\r\n\r\n")
        self._transport.write("\r\n".join(lines).encode("utf-8", "surrogateescape") + reply.body)

    def _hand_over(self) -> None:
        """To aiohttp, which starts from the request's first byte."""
        self._leave()
        raw = b"".join(self._raw)
        handler = self._fallback()
        self._transport.set_protocol(handler)
        handler.connection_made(self._transport)
        handler.data_received(raw)

    def _leave(self) -> None:
        self._connections.discard(self)
        if self._idle is not None:
            self._idle.cancel()

    def _close_idle(self) -> None:
        left = self._last + IDLE_SECONDS - self._loop.time()
        if left <= 0 and self._task is None:
            self.close()
        else:
            self._idle = self._loop.call_later(max(left, 1.0), self._close_idle)

    def close(self) -> None:
        self._transport.close()


_DATE = (0, "")


def _date(now: float) -> str:
    """The Date header's text, made once a second."""
    global _DATE
    if int(now) != _DATE[0]:
        _DATE = (int(now), formatdate(usegmt=True))
    return _DATE[1]
