"""`POST /classify`, and the pages that describe all endpoints: /openapi.json and /docs."""

from importlib.metadata import version

from aiohttp import web

from cycle_server.batching.batcher import Computed
from cycle_server.engine.stages import Tokens
from cycle_server.protocol import docs_page, openapi, tasks
from cycle_server.protocol.timing import server_headers
from cycle_server.server.answering import Answerer
from cycle_server.server.http import json_body, json_response, read_call
from cycle_server.server.lengths import refuse_cut
from cycle_server.server.lifecycle import Model

# The page needs nothing but itself.
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class TaskRoutes:
    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._document = openapi.document(
            model_name=answerer.config.model_name,
            model_version=answerer.version,
            server_version=version("cycle-server"),
            grpc_port=answerer.config.grpc_port,
        )

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/classify", self._classify),
            web.get("/openapi.json", self._openapi),
            web.get("/docs", self._docs),
        ]

    async def _openapi(self, _request: web.Request) -> web.Response:
        return json_response(self._document)

    async def _docs(self, _request: web.Request) -> web.Response:
        page = docs_page.render(self._document)
        return web.Response(text=page, content_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})

    async def _classify(self, http_request: web.Request) -> web.Response:
        call, body = await read_call(http_request)

        def read(model: Model) -> tuple[tasks.ClassifyRequest, Tokens]:
            request = tasks.parse_classify(body)
            tokens = model.engine.pre(request.all_texts)
            if not request.truncate:
                refuse_cut(model, request.all_texts, tokens, field=request.source)
            return request, tokens

        answered = await self._answerer.answer(call, read=read, write=self._write)
        return json_body(answered.content, headers=server_headers(answered.terms))

    def _write(self, model: Model, request: tasks.ClassifyRequest, computed: Computed) -> bytes:
        return tasks.classify_response(
            model=self._answerer.config.model_name,
            version=self._answerer.version,
            labels=model.engine.manifest.labels,
            probabilities=model.engine.post(computed.logits).probabilities.tolist(),
            top=request.top,
        )
