"""The connections: plain requests to infer are read and answered here, all else goes to aiohttp.

A hit costs some 20 us here and five times as much through a web framework, which is most of what a hit costs. So this
reads (with llhttp, through httptools) only what a balancer sends all day: one whole HTTP/1.1 POST to infer after the
other, and gRPC calls. The first thing that is anything else (another path, a chunked body that is no call's, Expect,
pipelining, too long, malformed) hands the connection over to aiohttp for good, with every byte of the request that was
not answered yet.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, cast

import httptools

from cycle_server.drain import Drain
from cycle_server.protocol import v2
from cycle_server.sidecar import call_bytes
from cycle_server.sidecar.responder import Asked, Reply, Responder
from cycle_server.sidecar.upstream import FORWARDED_HEADERS
from cycle_wire.headers import CACHE_HEADER, TENANT_HEADER

logger = logging.getLogger(__name__)

LONGEST_HEAD_BYTES = 16 * 1024
IDLE_SECONDS = 75.0
_KEPT_HEADERS = {
    name.lower().encode()
    for name in (*FORWARDED_HEADERS, "Cache-Control", CACHE_HEADER, TENANT_HEADER, *call_bytes.HEADERS)
}
_UNUSUAL_HEADERS = {b"content-encoding", b"expect", b"upgrade", b"http2-settings"}
_INFER = re.compile(rb"/v2/models/[\w.~%-]+(/versions/[\w.~%-]+)?/infer")
_CALLS = call_bytes.PREFIX.encode()
_REASONS = {status.value: status.phrase for status in HTTPStatus}


# Path, headers in lower case, body (None: too long) -> the whole HTTP answer.
AnswerCall = Callable[[str, dict[str, str], bytes | None], Coroutine[Any, Any, bytes]]


class Front(asyncio.Protocol):
    """One connection. ``fallback`` makes aiohttp's protocol for one. Without ``calls`` a call is any request."""

    def __init__(
        self,
        responder: Responder,
        *,
        fallback: Callable[[], asyncio.Protocol],
        connections: set["Front"],
        drain: Drain,
        calls: AnswerCall | None,
    ) -> None:
        self._responder = responder
        self._calls = calls
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
        self._last_one = False
        self._too_long = False  # a call, of which the rest is only read

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
        too_long = self._raw_bytes > longest
        if too_long and self._head_is_whole and self._is_call():
            too_long, self._too_long = False, True
            self._raw, self._body = [], []
        if self._unusual or self._begun > 1 or too_long:
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
            self._unusual |= (key in self._headers or not value.isascii()) and not self._is_call()
            self._headers.setdefault(key, value.decode("utf-8", "surrogateescape"))
        elif lower == b"transfer-encoding":  # the balancer's, of a call: HTTP/2 says no length before
            self._unusual |= value.lower() != b"chunked" or not self._is_call()
        elif lower in _UNUSUAL_HEADERS:
            self._unusual = True

    def on_headers_complete(self) -> None:
        parser = self._parser
        self._head_is_whole = True
        self._last_one = not parser.should_keep_alive()  # a balancer that goes down says so
        plain = parser.get_method() == b"POST" and parser.get_http_version() == "1.1"
        if self._is_call():
            plain &= self._headers.get("content-type", "") in call_bytes.CONTENT_TYPES
        else:
            plain &= _INFER.fullmatch(self._path) is not None and not self._last_one
        self._unusual |= not plain or self._head_bytes > LONGEST_HEAD_BYTES

    def on_body(self, body: bytes) -> None:
        if not self._too_long:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._whole = True

    # ours

    def _is_call(self) -> bool:
        return self._calls is not None and self._path.startswith(_CALLS)

    def _serve(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        if self._calls is not None and self._is_call():
            path = self._path.decode("utf-8", "replace")
            answer = self._calls(path, self._headers, None if self._too_long else body)
            self._task = self._loop.create_task(self._answer(answer))
            return
        asked = Asked(path=self._path.decode("ascii"), headers=self._headers, body=body)
        with self._drain:
            reply = self._responder.at_once(asked)
        if reply is not None:
            self._begin()
            self._transport.write(self._written(reply))
        else:
            self._task = self._loop.create_task(self._answer(self._infer(asked)))

    async def _infer(self, asked: Asked) -> bytes:
        with self._drain:
            return self._written(await self._responder.reply(asked))

    async def _answer(self, answer: Coroutine[Any, Any, bytes]) -> None:
        try:
            written = await answer
        except Exception:
            logger.exception("a request was not answered")
            self._transport.abort()
        else:
            last = self._last_one
            self._begin()
            self._task = None
            self._last = self._loop.time()
            self._transport.write(written)
            if last:
                self.close()
            self._go_on()

    def _go_on(self) -> None:
        """With what came early, and with reading, when there is nothing to wait for."""
        if self._task is not None or self._choked or self._transport.is_closing():
            return
        self._transport.resume_reading()
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    def _written(self, reply: Reply) -> bytes:
        lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, '')}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        lines.append(f"Content-Length: {len(reply.body)}\r\nDate: {_date(self._loop.time())}\r\n\r\n")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + reply.body

    def _hand_over(self) -> None:
        """To aiohttp, which starts from the request's first byte."""
        if self._too_long:  # that byte is gone
            self.close()
            return
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
