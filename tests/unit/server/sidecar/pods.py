"""A sidecar as it runs, in front of a real HTTP server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from cycle_server.drain import Drain
from cycle_server.protocol import v2
from cycle_server.sidecar.app import Sidecar
from cycle_wire.serving import SidecarConfig

URL = "/v2/models/m/infer"
DIGEST = "sha256:" + "a" * 64


@dataclass
class Upstream:
    """Answers with the number of the request; can be held up and told to fail."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    cancelled: int = 0
    is_ready: bool = True
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def infer(self, request: web.Request) -> web.Response:
        body = await request.text()
        self.headers.append(dict(request.headers))
        try:
            self.requests.append(json.loads(body))
        except ValueError:
            return web.json_response({"error": "body"}, status=400)
        number = len(self.requests)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.statuses:
            return web.json_response({"error": "shed"}, status=self.statuses.pop(0), headers={"Retry-After": "3"})
        output = {"name": "label", "datatype": "BYTES", "shape": [1], "data": [str(number)]}
        answer = {"model_name": "m", "model_version": "1", "outputs": [output]}
        return web.json_response(answer, headers={"Server-Timing": "queue;dur=1.000, compute;dur=5.000"})

    async def ready(self, _request: web.Request) -> web.Response:
        return web.json_response({"ready": self.is_ready}, status=200 if self.is_ready else 503)

    async def metadata(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        if name != "m":
            return web.json_response({"error": f"unknown model {name!r}"}, status=404)
        return web.json_response(v2.model_metadata(model_name=name, model_version="1", classes=3))

    async def server(self, _request: web.Request) -> web.Response:
        return web.json_response(v2.server_metadata(version="7"))


@dataclass
class Pod:
    client: aiohttp.ClientSession
    port: int
    upstream: Upstream
    drain: Drain

    async def ask(self, text: str = "a", *, headers: dict[str, str] | None = None, **fields: Any) -> tuple[str, str]:
        """Outcome and the number that the upstream gave its answer."""
        async with self.client.post(URL, data=body(text, **fields), headers=headers or {}) as response:
            answer = await response.json()
            assert response.status == 200, answer
            return response.headers["X-Cycle-Cache"], answer["outputs"][0]["data"][0]


def body(text: str, **fields: Any) -> bytes:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
    return json.dumps({"inputs": [tensor], **fields}).encode()


async def make_pod(**settings: Any) -> AsyncIterator[Pod]:
    upstream = Upstream()
    upstream.go.set()
    app = web.Application(client_max_size=2**20)
    app.router.add_post(URL, upstream.infer)
    for path in ("/v2/health/ready", "/v2/health/live", "/v2/models/m/ready"):
        app.router.add_get(path, upstream.ready)
    app.router.add_get("/v2/models/{model}", upstream.metadata)
    app.router.add_get("/v2", upstream.server)
    server = TestServer(app, skip_url_asserts=True)
    await server.start_server()
    config = SidecarConfig(upstream=str(server.make_url("")), model_digest=DIGEST, variant="v", **settings)
    drain = Drain(drain_seconds=5, quiet_seconds=1)
    try:
        async with running(config, drain=drain) as (client, port):
            yield Pod(client=client, port=port, upstream=upstream, drain=drain)
    finally:
        upstream.go.set()
        await server.close()


@asynccontextmanager
async def running(config: SidecarConfig, *, drain: Drain) -> AsyncIterator[tuple[aiohttp.ClientSession, int]]:
    """A client of a sidecar, and its port."""
    sidecar = Sidecar(config, drain=drain)
    port = await sidecar.start(host="127.0.0.1", port=0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            yield client, port
    finally:
        await sidecar.stop()
