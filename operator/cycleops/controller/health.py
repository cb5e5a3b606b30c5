"""Probes and metrics on one plain port: liveness tests that the queue turns, readiness that the caches are filled."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

STALLED_SECONDS = 60.0


class HealthServer:
    def __init__(self, *, stalled_seconds: Callable[[], float], ready: Callable[[], bool]) -> None:
        self._stalled_seconds = stalled_seconds
        self._ready = ready
        self._runner: web.AppRunner | None = None

    async def start(self, *, port: int) -> None:
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, port=port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        stalled = self._stalled_seconds()
        return web.Response(
            status=200 if stalled < STALLED_SECONDS else 500, text=f"queue turned {stalled:.1f} s ago\n"
        )

    async def _readyz(self, _: web.Request) -> web.Response:
        ready = self._ready()
        return web.Response(status=200 if ready else 503, text="ready\n" if ready else "caches are being filled\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
