"""Requests to the server in the same pod."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import ClientResponse, ClientSession, ClientTimeout, TCPConnector
from yarl import URL

from cycle_server.tracing import FORWARDED as TRACE_HEADERS
from cycle_wire.headers import DEADLINE_HEADER, ELAPSED_HEADER, PRIORITY_HEADER, TENANT_HEADER

CONNECT_SECONDS = 2.0
SILENT_SECONDS = 120.0  # the server sheds far earlier; this only ends what hangs, and no stream that goes on
LONGEST_ANSWER_BYTES = 32 * 1024 * 1024
# Of requests to infer. What the answer depends on must be in the key (the tenant is) or bypass the cache (the binary
# extension does). Not Content-Encoding: aiohttp has decoded the body.
FORWARDED_HEADERS = (
    "Content-Type",
    DEADLINE_HEADER,
    TENANT_HEADER,
    PRIORITY_HEADER,
    "Inference-Header-Content-Length",
    *TRACE_HEADERS,
)
PASSED_ON_HEADERS = (*FORWARDED_HEADERS, "Accept")  # of all other requests, whose answers are never kept
RETURNED_HEADERS = (
    "Content-Type",
    "Retry-After",
    "Server-Timing",
    "Cache-Control",
    "Inference-Header-Content-Length",
    ELAPSED_HEADER,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: one that broke off is an exception and never gets to be an Answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class AnswerTooLongError(Exception):
    """The server's answer is longer than the sidecar holds in memory."""


class Upstream:
    """Raises aiohttp.ClientError or TimeoutError when the server can't be reached or its answer breaks off."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: ClientSession | None = None

    async def open(self) -> None:
        self._session = ClientSession(
            connector=TCPConnector(limit=0, keepalive_timeout=60, ttl_dns_cache=300),
            timeout=ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS),
            auto_decompress=False,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """The whole answer. Raises AnswerTooLongError also."""
        async with self.stream(method, path, body=body, headers=headers) as response:
            chunks, length = [], 0
            async for chunk in response.content.iter_any():
                length += len(chunk)
                if length > LONGEST_ANSWER_BYTES:
                    raise AnswerTooLongError(f"the server's answer is longer than {LONGEST_ANSWER_BYTES} bytes")
                chunks.append(chunk)
            return Answer(status=response.status, body=b"".join(chunks), headers=returned_headers(response))

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str]
    ) -> AsyncIterator[ClientResponse]:
        """The answer as it comes."""
        assert self._session is not None, "open() comes first"
        url = URL(self._url + path, encoded=True)  # as the client sent it: the key is made of it
        async with self._session.request(method, url, data=body, headers=headers) as response:
            yield response


def returned_headers(response: ClientResponse) -> dict[str, str]:
    return {name: response.headers[name] for name in RETURNED_HEADERS if name in response.headers}
