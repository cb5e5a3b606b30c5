"""`cycle-server sidecar`: a reverse proxy that answers exact repeats of infer from memory.

Only 200 answers of infer are kept, and only when the variant's answers don't depend on batch neighbours
(``cacheable``). What can't be read as a request, or says ``Cache-Control: no-store``, goes to the server as it is.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiohttp import ClientError, web
from pydantic_core import to_json

from cycle_server.drain import Drain, serve_until_drained
from cycle_server.protocol import v2
from cycle_server.protocol.timing import sidecar_headers
from cycle_server.server.metrics import exposition, observe
from cycle_server.sidecar.cache import AnswerCache
from cycle_server.sidecar.key import Identity, cache_key, with_id, without_id
from cycle_server.sidecar.metrics import SidecarMetrics
from cycle_server.sidecar.upstream import FORWARDED_HEADERS, Answer, Upstream
from cycle_server.tracing import TRACE_HEADER, begun, tracing
from cycle_wire.serving import SidecarConfig

CACHE_HEADER = "X-Cycle-Cache"
TENANT_HEADER = "X-Cycle-Tenant"
QUIET_SECONDS = 2.0
HOST = "0.0.0.0"
JSON_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Outcome:
    """``upstream_seconds``: how long the sidecar waited for others."""

    name: str
    answer: Answer
    upstream_seconds: float = 0.0


class Sidecar:
    def __init__(self, config: SidecarConfig, *, drain: Drain) -> None:
        self._drain = drain
        self._cacheable = config.cacheable and config.size_bytes > 0
        self._identity = Identity(model_digest=config.model_digest, variant=config.variant)
        self._cache = AnswerCache(size_bytes=config.size_bytes, ttl_seconds=config.ttl_seconds)
        self._upstream = Upstream(config.upstream)
        self._metrics = SidecarMetrics(target_milliseconds=config.target_milliseconds)
        self.tracing = tracing("cycle-cache")

    def app(self) -> web.Application:
        app = web.Application(client_max_size=v2.MAXIMUM_BODY_BYTES)
        app.add_routes(
            [
                web.get("/metrics", self._expose),
                web.get("/metrics/server", self._expose_server),
                web.get("/v2/health/ready", self._ready),
                web.post("/v2/models/{model}/infer", self._infer),
                web.post("/v2/models/{model}/versions/{version}/infer", self._infer),
                web.route("*", "/{path:.*}", self._pass_on),
            ]
        )
        app.on_startup.append(lambda _: self._upstream.open())
        app.on_cleanup.append(lambda _: self._upstream.close())
        return app

    async def _expose(self, request: web.Request) -> web.Response:
        self._metrics.size_bytes.set(self._cache.size_bytes)
        self._metrics.entries.set(self._cache.entries)
        text, content_type = exposition(self._metrics.registry, request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def _expose_server(self, request: web.Request) -> web.Response:
        """The server's metrics, which listens on the pod's loopback only. The operator reads T's terms here."""
        try:
            answer = await self._upstream.send("GET", "/metrics", body=None, headers=accepted(request))
        except (ClientError, TimeoutError) as error:
            return _error(f"the server can't be reached: {error}", status=503)
        return web.Response(body=answer.body, status=answer.status, headers=dict(answer.headers))

    async def _ready(self, request: web.Request) -> web.Response:
        """The server's readiness, unless this process is going down."""
        if self._drain.draining:
            return _error("the pod is going down", status=503)
        return await self._pass_on(request)

    async def _pass_on(self, request: web.Request) -> web.Response:
        try:
            body = await request.read() if request.can_read_body else None
            headers = _forwarded(request)
            answer = await self._upstream.send(request.method, request.raw_path, body=body, headers=headers)
        except (ClientError, TimeoutError) as error:
            return _error(f"the server can't be reached: {error}", status=503)
        return web.Response(body=answer.body, status=answer.status, headers=dict(answer.headers))

    async def _infer(self, request: web.Request) -> web.Response:
        with self._drain, begun(self.tracing, "cache", request.headers) as span:
            arrived = time.perf_counter()
            try:
                body = await request.read()
            except web.HTTPRequestEntityTooLarge:
                self._metrics.requests.labels("bypass", "413").inc()
                return _error(f"body: longer than {v2.MAXIMUM_BODY_BYTES} bytes", status=413)
            try:
                outcome = await self._outcome(request, body, traceparent=span.traceparent if span else "")
            except (ClientError, TimeoutError) as error:
                self._metrics.requests.labels("bypass", "503").inc()
                response = _error(f"the server can't be reached: {error}", status=503)
                response.headers["Retry-After"] = "1"
                return response
            response = self._respond(request, outcome, arrived=arrived)
            if span:
                span.end(status=response.status, attributes={"cycle.outcome": outcome.name})
            return response

    async def _outcome(self, http_request: web.Request, body: bytes, *, traceparent: str) -> Outcome:
        control = {part.strip().lower() for part in http_request.headers.get("Cache-Control", "").split(",")}
        request = self._readable(http_request, body) if self._cacheable and "no-store" not in control else None
        if request is None:
            return await self._bypass(http_request, body, traceparent)
        match = http_request.match_info
        tenant = http_request.headers.get(TENANT_HEADER, "")
        key = cache_key(
            request, model=match["model"], version=match.get("version"), tenant=tenant, identity=self._identity
        )
        known = None if "no-cache" in control else self._cache.get(key)
        if known is not None:
            return Outcome("hit", Answer(status=200, body=with_id(known, request.id), headers=JSON_HEADERS))
        return await self._miss(http_request, request, key, traceparent)

    @staticmethod
    def _readable(http_request: web.Request, body: bytes) -> v2.InferRequest | None:
        """None for what isn't a request: the server says what is wrong with it."""
        if v2.TENSOR_HEADER in http_request.headers:
            return None
        try:
            return v2.parse_infer(body)
        except v2.ProtocolError:
            return None

    async def _bypass(self, http_request: web.Request, body: bytes, traceparent: str) -> Outcome:
        started = time.perf_counter()
        headers = {**_forwarded(http_request, traceparent), CACHE_HEADER: "bypass"}
        answer = await self._upstream.send("POST", http_request.raw_path, body=body, headers=headers)
        return Outcome("bypass", answer, time.perf_counter() - started)

    async def _miss(self, http_request: web.Request, request: v2.InferRequest, key: bytes, traceparent: str) -> Outcome:
        started = time.perf_counter()
        path, body = http_request.raw_path, without_id(request)
        headers = {**_forwarded(http_request, traceparent), CACHE_HEADER: "miss"}
        answer, shared = await self._upstream.send_once(key, path=path, body=body, headers=headers)
        if shared and answer.status != 200:  # another's deadline may have been shorter: ask again for oneself
            answer, shared = await self._upstream.send("POST", path, body=body, headers=headers), False
        waited = time.perf_counter() - started
        if answer.status == 200:
            if not shared:
                self._cache.put(key, answer.body)
            answer = replace(answer, body=with_id(answer.body, request.id))
        return Outcome("coalesced" if shared else "miss", answer, waited)

    def _respond(self, request: web.Request, outcome: Outcome, *, arrived: float) -> web.Response:
        answer, waited = outcome.answer, outcome.upstream_seconds
        total = time.perf_counter() - arrived
        self._metrics.requests.labels(outcome.name, str(answer.status)).inc()
        if answer.status == 200:
            trace = request.headers.get(TRACE_HEADER, "")
            observe(self._metrics.request.labels(outcome.name), total, traceparent=trace)
            self._metrics.cache.labels(outcome.name).observe(max(total - waited, 0.0))
        timing = sidecar_headers(
            outcome=outcome.name, total_seconds=total, waited_seconds=waited, upstream=answer.headers
        )
        headers = {**answer.headers, **timing, CACHE_HEADER: outcome.name}
        return web.Response(body=answer.body, status=answer.status, headers=headers)


def _forwarded(request: web.Request, traceparent: str = "") -> Mapping[str, str]:
    """``traceparent``: of the sidecar's own span, where there is one."""
    found = {name: request.headers[name] for name in FORWARDED_HEADERS if name in request.headers}
    return {**found, TRACE_HEADER: traceparent} if traceparent else found


def accepted(request: web.Request) -> Mapping[str, str]:
    return {"Accept": request.headers["Accept"]} if "Accept" in request.headers else {}


def _error(message: str, *, status: int) -> web.Response:
    return web.Response(body=to_json({"error": message}), status=status, content_type="application/json")


def run_sidecar(config: SidecarConfig) -> None:
    """Runs until SIGTERM and drained. Raises OSError when the port is taken."""
    asyncio.run(_run(config))


async def _run(config: SidecarConfig) -> None:
    drain = Drain(drain_seconds=config.drain_seconds, quiet_seconds=QUIET_SECONDS)
    sidecar = Sidecar(config, drain=drain)
    await serve_until_drained(sidecar.app(), host=HOST, port=config.port, drain=drain)
    if sidecar.tracing:
        await asyncio.to_thread(sidecar.tracing.close)
