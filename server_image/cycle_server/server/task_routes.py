"""`POST /classify`, `/generate`, `/recommend` and `/translate`, and the pages that describe all endpoints:
/openapi.json and /docs.
"""

from collections.abc import Sequence
from importlib.metadata import version

from aiohttp import web

from cycle_server.batching.batcher import Computed
from cycle_server.engine.stages import ImageStages, ItemStages, ReadingTexts
from cycle_server.items import Items
from cycle_server.protocol import docs_page, generation, openapi, tasks
from cycle_server.protocol.timing import server_headers
from cycle_server.ranking import best
from cycle_server.server.answering import CLASSIFYING, Answerer
from cycle_server.server.generating import Generating, Reading, Text, encoded_chat
from cycle_server.server.generator import Generator
from cycle_server.server.http import json_body, json_response, read_call
from cycle_server.server.lengths import refuse_cut
from cycle_server.server.lifecycle import Model
from cycle_server.server.reading import (
    classes_of,
    classified_images,
    given_sets,
    sets_of,
    texts_of,
    translations_of,
)
from cycle_wire.parts import Task

# The page needs nothing but itself.
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class TaskRoutes:
    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._generating = Generating(answerer)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/classify", self._classify),
            web.post("/generate", self._generate),
            web.post("/recommend", self._recommend),
            web.post("/translate", self._translate),
            web.get("/openapi.json", self._openapi),
            web.get("/docs", self._docs),
        ]

    async def _openapi(self, _request: web.Request) -> web.Response:
        return json_response(self._document())

    async def _docs(self, _request: web.Request) -> web.Response:
        page = docs_page.render(self._document())
        return web.Response(text=page, content_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})

    def _document(self) -> openapi.JsonObject:
        answerer = self._answerer
        return openapi.document(
            task=answerer.task,
            model_name=answerer.config.model_name,
            model_version=answerer.version,
            server_version=version("cycle-server"),
            grpc_port=answerer.config.grpc_port,
            image_shape=answerer.image_shape,
        )

    async def _classify(self, http_request: web.Request) -> web.Response:
        call, body = await read_call(http_request)

        def read(model: Model) -> tuple[tasks.ClassifyRequest | tasks.ClassifyImagesRequest, Items]:
            if isinstance(model.engine, ImageStages):
                images = tasks.parse_classify_images(body)
                return images, classified_images(model.engine, images)
            request = tasks.parse_classify(body)
            return request, _tokens(texts_of(model.engine), request)

        answered = await self._answerer.answer(call, read=read, write=self._write, tasks=CLASSIFYING)
        return json_body(answered.content, headers=server_headers(answered.terms))

    async def _translate(self, http_request: web.Request) -> web.Response:
        call, body = await read_call(http_request)

        def read(model: Model) -> tuple[tasks.TextsRequest, Items]:
            request = tasks.parse_translate(body)
            return request, _tokens(translations_of(model.engine), request)

        def write(model: Model, _request: tasks.TextsRequest, computed: Computed) -> bytes:
            return tasks.translate_response(
                model=self._answerer.config.model_name,
                version=self._answerer.version,
                translations=translations_of(model.engine).post(computed.logits),
            )

        answered = await self._answerer.answer(call, read=read, write=write, tasks=(Task.TRANSLATION,))
        return json_body(answered.content, headers=server_headers(answered.terms))

    async def _recommend(self, http_request: web.Request) -> web.Response:
        call, body = await read_call(http_request)

        def read(model: Model) -> tuple[tasks.RecommendRequest, Items]:
            request = tasks.parse_recommend(body)
            return request, given_sets(sets_of(model.engine), request.named)

        def write(model: Model, request: tasks.RecommendRequest, computed: Computed) -> bytes:
            return self._recommended(sets_of(model.engine), request, computed)

        answered = await self._answerer.answer(call, read=read, write=write, tasks=(Task.RECOMMENDATION,))
        return json_body(answered.content, headers=server_headers(answered.terms))

    def _recommended(self, stages: ItemStages, request: tasks.RecommendRequest, computed: Computed) -> bytes:
        known = stages.catalogue
        results = []
        for (_, names), row in zip(request.named, stages.post(computed.logits).probabilities, strict=True):
            ranked = best(row, request.top, without=known.indices(names))
            results.append(
                tasks.Recommendation(
                    items=[tasks.ScoredItem(item=known.items[i], probability=float(row[i])) for i in ranked],
                    unknown=known.strangers(names),
                )
            )
        response = tasks.RecommendResponse(
            model=self._answerer.config.model_name, version=self._answerer.version, results=results
        )
        return response.model_dump_json().encode()

    async def _generate(self, http_request: web.Request) -> web.StreamResponse:
        call, body = await read_call(http_request)
        self._answerer.generator()
        request = generation.parse_generate(body)

        def read(model: Generator) -> Reading:
            if request.source == "messages":
                tokens = encoded_chat(model, request.plain_messages)
            else:
                tokens = model.engine.encode(request.prompt)
            return Reading(prompts=[(request.source, tokens)], wishes=request.all_wishes)

        def write(texts: Sequence[Text]) -> bytes:
            (text,) = texts
            return generation.generate_response(
                model=self._answerer.config.model_name,
                version=self._answerer.version,
                text=text.text,
                finish=text.finish,
                usage=text.usage,
            )

        if request.stream:
            return await self._generating.streamed(call, http_request, read=read, events=generation.GenerateEvents())
        content, headers = await self._generating.whole(call, read=read, write=write)
        return json_body(content, headers=headers)

    def _write(
        self, model: Model, request: tasks.ClassifyRequest | tasks.ClassifyImagesRequest, computed: Computed
    ) -> bytes:
        return tasks.classify_response(
            model=self._answerer.config.model_name,
            version=self._answerer.version,
            labels=classes_of(model.engine).labels,
            probabilities=classes_of(model.engine).post(computed.logits).probabilities.tolist(),
            top=request.top,
        )


def _tokens(stages: ReadingTexts, request: tasks.TextsRequest) -> Items:
    """Raises ProtocolError for a text that is too long, where it isn't to be cut."""
    tokens = stages.pre(request.all_texts)
    if not request.truncate:
        refuse_cut(stages, request.all_texts, tokens, field=request.source)
    return tokens
