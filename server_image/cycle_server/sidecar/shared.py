"""The cache that the pods of a service share: Redis or Valkey. It can be slow, down, full, or hold anything.

So nothing here raises, a lookup takes ``TIMEOUT_SECONDS`` at most, stores go on behind the answer and are dropped when
too many wait, and a circuit breaker leaves a broken one alone. What isn't exactly what this module wrote under this key
is a miss: each value carries an authentication code over its scope, key, age and body, keyed by the URL with its
password.
"""

import asyncio
import hashlib
import hmac
import logging
import struct
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from cycle_server.sidecar.breaker import Breaker
from cycle_server.sidecar.metrics import SharedMetrics
from cycle_wire.serving import SharedCacheConfig

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 0.05  # of a lookup, connecting included
STORE_TIMEOUT_SECONDS = 1.0
MOST_STORES = 64
MOST_CONNECTIONS = 32
LONGEST_BODY_BYTES = 4 * 1024 * 1024
_MAGIC = b"CYC1"
_HEAD = struct.Struct(">4sdI")  # magic, when made (seconds since the epoch), length of the body
_MAC_BYTES = 32
# ValueError: a URL that is none. RuntimeError: uvloop's word for a connection that was closed under a command's hands.
_FAILURES = (RedisError, OSError, TimeoutError, ValueError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Found:
    body: bytes
    age_seconds: float


class Codec:
    """Values as they lie in the shared cache."""

    def __init__(self, *, scope: str, secret: bytes) -> None:
        self._scope = scope.encode()
        self._secret = hashlib.sha256(secret).digest()

    def name(self, key: bytes) -> bytes:
        """Of the value in the shared cache, so that several services may use one."""
        return b"cycleops:" + self._scope + b":" + key.hex().encode()

    def encode(self, key: bytes, body: bytes, *, made: float) -> bytes:
        head = _HEAD.pack(_MAGIC, made, len(body))
        return head + body + self._mac(key, head, body)

    def decode(self, key: bytes, value: bytes) -> tuple[bytes, float] | None:
        """Body and when it was made; None for what wasn't written by ``encode`` under this key and scope."""
        if len(value) < _HEAD.size + _MAC_BYTES:
            return None
        head, body, mac = value[: _HEAD.size], value[_HEAD.size : -_MAC_BYTES], value[-_MAC_BYTES:]
        magic, made, length = _HEAD.unpack(head)
        if magic != _MAGIC or length != len(body) or not hmac.compare_digest(mac, self._mac(key, head, body)):
            return None
        return body, made

    def _mac(self, key: bytes, head: bytes, body: bytes) -> bytes:
        scope = struct.pack(">I", len(self._scope)) + self._scope
        return hmac.digest(self._secret, scope + key + head + body, "sha256")


class SharedCache:
    def __init__(self, config: SharedCacheConfig, *, metrics: SharedMetrics, breaker: Breaker | None = None) -> None:
        self._config = config
        self._metrics = metrics
        self._breaker = breaker or Breaker()
        self._url = ""
        self._redis: Redis | None = None
        self._codec = Codec(scope=config.scope, secret=b"")
        self._stores: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for store in self._stores:
            store.cancel()
        if self._redis is not None:
            await self._redis.aclose()

    async def get(self, key: bytes) -> Found | None:
        """None when it isn't there, and when that can't be found out in time."""
        if not self._breaker.may_try():
            self._metrics.lookups.labels("skipped").inc()
            return None
        started = time.perf_counter()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                redis = await self._connection()
                value = await redis.get(self._codec.name(key))
        except _FAILURES as error:
            self._failed(error)
            self._metrics.lookups.labels("error").inc()
            return None
        except asyncio.CancelledError:
            self._breaker.abandoned()
            raise
        self._succeeded()
        found = self._found(key, value)
        self._metrics.lookups.labels("miss" if found is None else "hit").inc()
        self._metrics.seconds.observe(time.perf_counter() - started)
        return found

    def put(self, key: bytes, body: bytes) -> None:
        """Stores it behind the answer's back."""
        if len(body) > LONGEST_BODY_BYTES or len(self._stores) >= MOST_STORES or not self._breaker.closed:
            self._metrics.stores.labels("dropped").inc()
            return
        self._start(self._store(key, body, made=time.time()))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._stores.add(task)  # the loop holds tasks weakly
        task.add_done_callback(self._stores.discard)

    async def _store(self, key: bytes, body: bytes, *, made: float) -> None:
        try:
            async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
                redis = await self._connection()
                value = self._codec.encode(key, body, made=made)
                await redis.set(self._codec.name(key), value, px=int(self._config.ttl_seconds * 1000))
        except _FAILURES as error:
            self._failed(error)
            self._metrics.stores.labels("error").inc()
        else:
            self._metrics.stores.labels("stored").inc()

    def _found(self, key: bytes, value: object) -> Found | None:
        decoded = self._codec.decode(key, value) if isinstance(value, bytes) else None
        if decoded is None:
            return None
        body, made = decoded
        age_seconds = max(time.time() - made, 0.0)
        return Found(body, age_seconds) if age_seconds < self._config.ttl_seconds else None

    async def _connection(self) -> Redis:
        """The URL is read again whenever there is no connection: passwords are rotated, a Secret may come later."""
        if self._redis is None:
            text = await asyncio.to_thread(Path(self._config.url_path).read_text, encoding="utf-8")
            if self._redis is None:  # nobody else has connected meanwhile
                self._redis = Redis.from_url(
                    text.strip(),
                    socket_timeout=STORE_TIMEOUT_SECONDS,
                    socket_connect_timeout=STORE_TIMEOUT_SECONDS,
                    max_connections=MOST_CONNECTIONS,
                    retry=None,
                    decode_responses=False,
                )
                self._codec = Codec(scope=self._config.scope, secret=text.strip().encode())
        return self._redis

    def _succeeded(self) -> None:
        if not self._breaker.closed:
            logger.info("the shared cache answers again")
        self._breaker.succeeded()
        self._metrics.up.set(1)

    def _failed(self, error: Exception) -> None:
        was_closed = self._breaker.closed
        self._breaker.failed()
        if was_closed and not self._breaker.closed:
            # Its kind only: the text may hold the URL.
            logger.warning("the shared cache is left alone for now: %s", type(error).__name__)
            self._metrics.up.set(0)
            broken, self._redis = self._redis, None
            if broken is not None:
                self._start(_closed(broken))


async def _closed(redis: Redis) -> None:
    """Its idle connections only: redis-py fails with AttributeError where one is closed under a command's hands, and
    those commands end by their own time-out.
    """
    try:
        await redis.connection_pool.disconnect(inuse_connections=False)
    except _FAILURES as error:
        logger.debug("while closing: %s", type(error).__name__)
