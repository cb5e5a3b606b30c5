"""Requests to the server in the same pod, and the single flight of those that ask the same."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from cycle_server.protocol.timing import ELAPSED_HEADER
from cycle_server.tracing import FORWARDED as TRACE_HEADERS

CONNECT_SECONDS = 2.0
TOTAL_SECONDS = 120.0  # the server sheds far earlier; this only ends what hangs
# Not Content-Encoding: aiohttp has decoded the body.
FORWARDED_HEADERS = ("Content-Type", "X-Cycle-Deadline-Ms", "Inference-Header-Content-Length", *TRACE_HEADERS)
RETURNED_HEADERS = ("Content-Type", "Retry-After", "Server-Timing", ELAPSED_HEADER)


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Upstream:
    """Raises aiohttp.ClientError or TimeoutError when the server can't be reached."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: ClientSession | None = None
        self._flights: dict[bytes, asyncio.Task[Answer]] = {}
        self._waiting: dict[bytes, int] = {}

    async def open(self) -> None:
        self._session = ClientSession(
            connector=TCPConnector(limit=0, keepalive_timeout=60, ttl_dns_cache=300),
            timeout=ClientTimeout(total=TOTAL_SECONDS, sock_connect=CONNECT_SECONDS),
            auto_decompress=False,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        assert self._session is not None, "open() comes first"
        async with self._session.request(method, self._url + path, data=body, headers=headers) as response:
            returned = {name: response.headers[name] for name in RETURNED_HEADERS if name in response.headers}
            return Answer(status=response.status, body=await response.read(), headers=returned)

    async def send_once(self, key: bytes, *, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[Answer, bool]:
        """Like send (POST); True when the answer is another requester's of the same key.

        The request goes on while anybody waits for it: a client that leaves doesn't break the others' answer.
        """
        flight = self._flights.get(key)
        shared = flight is not None
        if flight is None:
            flight = asyncio.create_task(self.send("POST", path, body=body, headers=headers))
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        self._waiting[key] = self._waiting.get(key, 0) + 1
        try:
            return await asyncio.shield(flight), shared
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
                flight.cancel()  # nobody is left; does nothing when it is done
