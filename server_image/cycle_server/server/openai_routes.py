"""The part of OpenAI's API that an encoder can answer: embeddings and the list of models."""

import time

from aiohttp import web

from cycle_server.batching.batcher import Computed
from cycle_server.engine.stages import Tokens
from cycle_server.protocol import openai
from cycle_server.protocol.timing import server_headers
from cycle_server.server.answering import Answerer
from cycle_server.server.http import json_body, json_response, read_call
from cycle_server.server.lengths import refuse_cut
from cycle_server.server.lifecycle import Model


class OpenAIRoutes:
    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._card = openai.ModelCard(id=answerer.config.model_name, created=int(time.time()))

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/models", self._models),
            web.get("/v1/models/{model}", self._model),
            web.post("/v1/embeddings", self._embeddings),
        ]

    async def _models(self, _request: web.Request) -> web.Response:
        return json_response(openai.ModelList(data=[self._card]).model_dump())

    async def _model(self, request: web.Request) -> web.Response:
        openai.check_model(request.match_info["model"], model_name=self._answerer.config.model_name)
        return json_response(self._card.model_dump())

    async def _embeddings(self, http_request: web.Request) -> web.Response:
        call, body = await read_call(http_request)
        model_name = self._answerer.config.model_name

        def read(model: Model) -> tuple[tuple[openai.EmbeddingsRequest, int], Tokens]:
            request = openai.parse_embeddings(body, model_name=model_name)
            tokens = model.engine.pre(request.input)
            refuse_cut(model, request.input, tokens, field="input")
            return (request, sum(len(ids) for ids in tokens)), tokens

        def write(model: Model, request: tuple[openai.EmbeddingsRequest, int], computed: Computed) -> bytes:
            return openai.embeddings_response(
                model.engine.embeddings(computed.logits).tolist(),
                model_name=model_name,
                tokens=request[1],
                encoding_format=request[0].encoding_format,
            )

        answered = await self._answerer.answer(call, read=read, write=write)
        return json_body(answered.content, headers=server_headers(answered.terms))
