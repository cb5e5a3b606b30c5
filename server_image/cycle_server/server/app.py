"""The server's routes: Open Inference Protocol v2, health, metrics."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from aiohttp import web
from aiohttp.web_exceptions import HTTPRequestEntityTooLarge
from pydantic_core import to_json

from cycle_server.batching.batcher import Computed, ShedError
from cycle_server.drain import Drain
from cycle_server.engine.pipeline import Tokens
from cycle_server.protocol import v2
from cycle_server.protocol.timing import Stopwatch, server_headers
from cycle_server.server.lifecycle import Model
from cycle_server.server.metrics import OUTCOMES, ServerMetrics, exposition, observe
from cycle_server.tracing import TRACE_HEADER, ActiveSpan, begun, tracing
from cycle_wire.serving import ServerConfig

DEADLINE_HEADER = "X-Cycle-Deadline-Ms"  # milliseconds that the client still waits
CACHE_HEADER = "X-Cycle-Cache"
INLINE_BYTES = 8192  # longer bodies are tokenized on another thread, so that they don't hold up the others
QUIET_SECONDS = 4.0  # longer than the sidecar's: it must not outlive its upstream


def model_version(config: ServerConfig) -> str:
    """Changes with everything that changes answers."""
    return f"{config.model_digest.removeprefix('sha256:')[:12]}-{config.variant}"


class Server:
    """Not ready until ``model`` is set."""

    def __init__(self, config: ServerConfig, *, metrics: ServerMetrics, drain: Drain) -> None:
        self.config = config
        self.metrics = metrics
        self.drain = drain
        self.model: Model | None = None
        self.tracing = tracing("cycle-server")
        self._version = model_version(config)

    @property
    def ready(self) -> bool:
        return self.model is not None and not self.drain.draining

    def app(self) -> web.Application:
        app = web.Application(client_max_size=v2.MAXIMUM_BODY_BYTES, middlewares=[_errors_as_json])
        routes = [
            web.get("/v2", self._server_metadata),
            web.get("/v2/health/live", self._live),
            web.get("/v2/health/ready", self._ready),
            web.get("/metrics", self._metrics),
        ]
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes += [
                web.get(model, self._model_metadata),
                web.get(f"{model}/ready", self._model_ready),
                web.post(f"{model}/infer", self._infer),
            ]
        app.add_routes(routes)
        return app

    async def _server_metadata(self, _request: web.Request) -> web.Response:
        return _json(v2.server_metadata(version=version("cycle-server")))

    async def _live(self, _request: web.Request) -> web.Response:
        live = self.model is None or not self.model.batcher.is_stuck()
        return _json({"live": live}, status=200 if live else 503)

    async def _ready(self, _request: web.Request) -> web.Response:
        return _json({"ready": self.ready}, status=200 if self.ready else 503)

    async def _model_ready(self, request: web.Request) -> web.Response:
        self._check_model(request)
        return _json({"name": self.config.model_name, "ready": self.ready}, status=200 if self.ready else 503)

    async def _model_metadata(self, request: web.Request) -> web.Response:
        self._check_model(request)
        classes = len(self.model.engine.manifest.labels) if self.model else -1
        return _json(v2.model_metadata(model_name=self.config.model_name, model_version=self._version, classes=classes))

    async def _metrics(self, request: web.Request) -> web.Response:
        self.metrics.ready.set(self.ready)
        self.metrics.in_flight.set(self.drain.in_flight)
        self.metrics.queue_depth.set(self.model.batcher.depth if self.model else 0)
        text, content_type = exposition(self.metrics.registry, request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def _infer(self, request: web.Request) -> web.Response:
        with self.drain, begun(self.tracing, "infer", request.headers) as span:
            try:
                response = await self._answer(request, span)
            except web.HTTPException as error:
                self.metrics.requests.labels(str(error.status)).inc()
                raise
            except v2.ProtocolError as error:
                response = web.Response(body=error.body(), status=error.status, content_type="application/json")
            except ShedError as error:
                response = _json({"error": f"overloaded: {error}"}, status=503)
                response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
            self.metrics.requests.labels(str(response.status)).inc()
            if span and response.status != 200:
                span.end(status=response.status)
            return response

    async def _answer(self, http_request: web.Request, span: ActiveSpan | None) -> web.Response:
        arrived, watch = time.monotonic(), Stopwatch()
        self._check_model(http_request)
        model = self.model
        if model is None:
            raise ShedError("the model isn't loaded yet", retry_after_seconds=1.0)
        deadline = arrived + self._budget_seconds(http_request)
        if v2.TENSOR_HEADER in http_request.headers:
            raise v2.ProtocolError("the binary tensor extension isn't spoken here", field=v2.TENSOR_HEADER)
        body = await http_request.read()

        request, tokens = await self._pre(model, body)
        watch.lap("pre")
        computed = await model.batcher.submit(tokens, deadline=deadline)
        watch.lap("queue", of_which={"compute": computed.compute_seconds})
        answer = self._post(model, request, computed)
        watch.lap("post")
        self._observe(http_request, watch)
        if span:
            span.end(status=200, terms=watch.terms, attributes={"cycle.batch.size": computed.batch_size})
        return web.Response(body=answer, content_type="application/json", headers=server_headers(watch.terms))

    def _observe(self, http_request: web.Request, watch: Stopwatch) -> None:
        outcome = http_request.headers.get(CACHE_HEADER, "direct")
        label = outcome if outcome in OUTCOMES else "direct"
        trace = http_request.headers.get(TRACE_HEADER, "")
        for term, seconds in {**watch.terms, "request": watch.elapsed_seconds}.items():
            observe(self.metrics.terms[term].labels(label), seconds, traceparent=trace)

    async def _pre(self, model: Model, body: bytes) -> tuple[v2.InferRequest, Tokens]:
        if len(body) <= INLINE_BYTES:
            return self._parse_and_tokenize(model, body)
        return await asyncio.to_thread(self._parse_and_tokenize, model, body)

    @staticmethod
    def _parse_and_tokenize(model: Model, body: bytes) -> tuple[v2.InferRequest, Tokens]:
        request = v2.parse_infer(body)
        return request, model.engine.pre(request.texts)

    def _post(self, model: Model, request: v2.InferRequest, computed: Computed) -> bytes:
        answers = model.engine.post(computed.logits)
        wanted = "probabilities" in request.output_names
        return v2.infer_response(
            model_name=self.config.model_name,
            model_version=self._version,
            request=request,
            labels=answers.labels,
            probability=answers.probability,
            probabilities=answers.probabilities.tolist() if wanted else [],
        )

    def _budget_seconds(self, request: web.Request) -> float:
        """The server's budget, or what the client still waits if that is less."""
        budget = self.config.budget_milliseconds
        header = request.headers.get(DEADLINE_HEADER)
        if header is not None:
            try:
                milliseconds = float(header)
            except ValueError:
                milliseconds = math.nan
            if not 0 <= milliseconds < math.inf:
                raise v2.ProtocolError("must be a number of milliseconds, 0 or more", field=DEADLINE_HEADER)
            budget = min(budget, milliseconds)
        return budget / 1000

    def _check_model(self, request: web.Request) -> None:
        name, wanted = request.match_info["model"], request.match_info.get("version")
        if name != self.config.model_name:
            raise v2.ProtocolError(f"unknown model {name!r}, this is {self.config.model_name!r}", status=404)
        if wanted is not None and wanted != self._version:
            raise v2.ProtocolError(f"unknown version {wanted!r}, this is {self._version!r}", status=404)


def _json(content: object, *, status: int = 200) -> web.Response:
    return web.Response(body=to_json(content), status=status, content_type="application/json")


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except v2.ProtocolError as error:
        return web.Response(body=error.body(), status=error.status, content_type="application/json")
    except HTTPRequestEntityTooLarge:
        return _json({"error": f"body: longer than {v2.MAXIMUM_BODY_BYTES} bytes", "field": "body"}, status=413)
    except web.HTTPException as error:
        return _json({"error": error.reason}, status=error.status)
