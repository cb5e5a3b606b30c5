"""`cycle-server sidecar`: a reverse proxy that answers exact repeats of infer from memory.

Plain requests to infer and gRPC calls are read in front.py; this is the rest: metrics, readiness, what is passed on,
and infer as aiohttp reads it.
"""

import asyncio

import uvloop
from aiohttp import ClientError, web
from pydantic_core import to_json

from cycle_server.drain import Drain
from cycle_server.protocol import v2
from cycle_server.server.metrics import exposition
from cycle_server.sidecar.front import IDLE_SECONDS, AnswerCall, Front
from cycle_server.sidecar.metrics import SidecarMetrics
from cycle_server.sidecar.responder import UNREACHABLE, Asked, Responder
from cycle_server.sidecar.streams import READERS, Generations
from cycle_server.sidecar.upstream import FORWARDED_HEADERS, PASSED_ON_HEADERS, Upstream, returned_headers
from cycle_server.tracing import tracing
from cycle_wire.serving import SidecarConfig

QUIET_SECONDS = 2.0
HOST = "0.0.0.0"
SHUTDOWN_SECONDS = 2.0


class Sidecar:
    def __init__(self, config: SidecarConfig, *, drain: Drain) -> None:
        self._drain = drain
        self._metrics = SidecarMetrics(target_milliseconds=config.target_milliseconds)
        self.tracing = tracing("cycle-cache")
        self._upstream = Upstream(config.upstream)
        self._responder = Responder(config, upstream=self._upstream, metrics=self._metrics, tracing=self.tracing)
        self._generations = Generations(self._responder, upstream=self._upstream, metrics=self._metrics)
        self._runner = web.AppRunner(
            self._app(),
            handle_signals=False,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=IDLE_SECONDS,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        self._connections: set[Front] = set()
        self._listener: asyncio.Server | None = None
        self._calls = self._grpc() if config.grpc else None

    def _grpc(self) -> AnswerCall:
        from cycle_server.sidecar.calls import Calls  # protobuf's memory is only for those who use it

        calls = Calls(self._responder, upstream=self._upstream, metrics=self._metrics, drain=self._drain)
        return calls.answer

    async def start(self, *, host: str, port: int) -> int:
        """Listens; the port, which is a free one when asked for 0. Raises OSError when it is taken."""
        await self._upstream.open()
        await self._runner.setup()
        self._listener = await asyncio.get_running_loop().create_server(self._connection, host, port, backlog=1024)
        return int(self._listener.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Closes all connections: drained first, nothing is under way on them."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.close()
        await self._runner.cleanup()
        await self._responder.close()
        await self._upstream.close()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)

    def _connection(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None, "start() comes first"
        return Front(
            self._responder, fallback=server, connections=self._connections, drain=self._drain, calls=self._calls
        )

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=v2.MAXIMUM_BODY_BYTES)
        app.add_routes(
            [
                web.get("/metrics", self._expose),
                web.get("/metrics/server", self._expose_server),
                web.get("/v2/health/ready", self._ready),
                web.post("/v2/models/{model}/infer", self._infer),
                web.post("/v2/models/{model}/versions/{version}/infer", self._infer),
                *(web.post(path, self._generate) for path in READERS),
                web.route("*", "/{path:.*}", self._pass_on),
            ]
        )
        return app

    async def _expose(self, request: web.Request) -> web.Response:
        self._metrics.size_bytes.set(self._responder.cache.size_bytes)
        self._metrics.entries.set(self._responder.cache.entries)
        text, content_type = exposition(self._metrics.registry, request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def _expose_server(self, request: web.Request) -> web.Response:
        """The server's metrics, which listens on the pod's loopback only. The operator reads T's terms here."""
        accept = {"Accept": request.headers["Accept"]} if "Accept" in request.headers else {}
        try:
            answer = await self._upstream.send("GET", "/metrics", body=None, headers=accept)
        except (ClientError, TimeoutError) as error:
            return _unreachable(error)
        return web.Response(body=answer.body, status=answer.status, headers=dict(answer.headers))

    async def _ready(self, request: web.Request) -> web.StreamResponse:
        """The server's readiness, unless this process is going down."""
        if self._drain.draining:
            return _error("the pod is going down", status=503)
        return await self._pass_on(request)

    async def _infer(self, request: web.Request) -> web.Response:
        with self._drain:
            try:
                body = await request.read()
            except web.HTTPRequestEntityTooLarge:
                return self._too_large()
            if unreadable := [name for name in FORWARDED_HEADERS if not _is_text(request.headers.get(name, ""))]:
                return _error(f"{unreadable[0]}: isn't UTF-8", status=400)
            reply = await self._responder.reply(Asked(path=request.raw_path, headers=request.headers, body=body))
            return web.Response(body=reply.body, status=reply.status, headers=reply.headers)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        with self._drain:
            try:
                return await self._generations.answer(request, await request.read())
            except web.HTTPRequestEntityTooLarge:
                return self._too_large()
            except UNREACHABLE as error:
                return _unreachable(error)

    def _too_large(self) -> web.Response:
        self._metrics.requests.labels("bypass", "413").inc()
        return _error(f"body: longer than {v2.MAXIMUM_BODY_BYTES} bytes", status=413)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        """As it comes and never kept: an answer may be a stream."""
        response: web.StreamResponse | None = None
        with self._drain:
            try:
                body = await request.read() if request.can_read_body else None
                headers = {name: request.headers[name] for name in PASSED_ON_HEADERS if name in request.headers}
                async with self._upstream.stream(
                    request.method, request.raw_path, body=body, headers=headers
                ) as answer:
                    response = web.StreamResponse(status=answer.status, headers=returned_headers(answer))
                    response.content_length = answer.content_length
                    await response.prepare(request)
                    async for chunk in answer.content.iter_any():
                        await response.write(chunk)
                    await response.write_eof()
                    return response
            except web.HTTPRequestEntityTooLarge:
                return self._too_large()
            except (ClientError, TimeoutError) as error:
                if response is None:
                    return _unreachable(error)
                response.force_close()  # half an answer must not look whole
                if request.transport is not None:
                    request.transport.abort()
                return response


def _is_text(value: str) -> bool:
    """False for bytes that aren't UTF-8, which aiohttp escapes by lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _unreachable(error: Exception) -> web.Response:
    return _error(f"the server can't be reached: {error}", status=503)


def _error(message: str, *, status: int) -> web.Response:
    return web.Response(body=to_json({"error": message}), status=status, content_type="application/json")


def run_sidecar(config: SidecarConfig) -> None:
    """Runs until SIGTERM and drained. Raises OSError when the port is taken."""
    uvloop.run(_run(config))


async def _run(config: SidecarConfig) -> None:
    drain = Drain(drain_seconds=config.drain_seconds, quiet_seconds=QUIET_SECONDS)
    sidecar = Sidecar(config, drain=drain)
    try:
        await sidecar.start(host=HOST, port=config.port)
        drain.listen()
        await drain.finished()
    finally:
        await sidecar.stop()
