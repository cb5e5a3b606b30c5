"""Going down without breaking a request: server and sidecar share this.

Kubernetes sends SIGTERM while balancers still know the pod. So a draining process first says "not ready" and goes on
serving until no request has come for a while, then stops listening, finishes what is in flight, and exits.
"""

import asyncio
import logging
import signal
import time

from aiohttp import web

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1


class Drain:
    """Counts requests; ``quiet_seconds`` without one ends the drain early."""

    def __init__(self, *, drain_seconds: float, quiet_seconds: float) -> None:
        self._drain_seconds = drain_seconds
        self._quiet_seconds = min(quiet_seconds, drain_seconds)
        self._asked = asyncio.Event()
        self._in_flight = 0
        self._last_request = 0.0

    @property
    def draining(self) -> bool:
        return self._asked.is_set()

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def __enter__(self) -> None:
        self._in_flight += 1
        self._last_request = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._in_flight -= 1

    def begin(self) -> None:
        self._asked.set()

    def listen(self) -> None:
        """Begin at SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.begin)

    async def finished(self) -> None:
        """Returns when a signal has come and nothing is in flight or expected, or the time is over."""
        await self._asked.wait()
        asked = time.monotonic()
        logger.info("draining for at most %.0f s", self._drain_seconds)
        while time.monotonic() - asked < self._drain_seconds:
            quiet_since = max(asked, self._last_request)
            if self._in_flight == 0 and time.monotonic() - quiet_since >= self._quiet_seconds:
                return
            await asyncio.sleep(POLL_SECONDS)
        if self._in_flight:
            logger.warning("%d requests are in flight still after %.0f s", self._in_flight, self._drain_seconds)


async def serve_until_drained(app: web.Application, *, host: str, port: int, drain: Drain) -> None:
    """Runs ``app``. A client that goes away cancels its handler. Raises OSError when the port is taken."""
    runner = web.AppRunner(
        app, handle_signals=False, access_log=None, handler_cancellation=True, keepalive_timeout=75, shutdown_timeout=2
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=1024)
        await site.start()
        drain.listen()
        await drain.finished()
    finally:
        await runner.cleanup()
