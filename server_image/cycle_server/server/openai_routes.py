"""OpenAI's API: chat completions and completions of language models, embeddings of encoders, the list of models."""

import time
from collections.abc import Callable, Sequence
from uuid import uuid4

from aiohttp import web

from cycle_server.batching.batcher import Computed
from cycle_server.items import Items
from cycle_server.protocol import openai, openai_text
from cycle_server.protocol.timing import server_headers
from cycle_server.server.answering import Answerer, Call
from cycle_server.server.generating import Generating, Reading, Text, encoded_chat
from cycle_server.server.generator import Generator
from cycle_server.server.http import json_body, json_response, read_call
from cycle_server.server.lengths import refuse_cut
from cycle_server.server.lifecycle import Model
from cycle_server.server.reading import texts_of
from cycle_wire.parts import Task


class OpenAIRoutes:
    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._generating = Generating(answerer)
        self._card = openai.ModelCard(id=answerer.config.model_name, created=int(time.time()))

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/models", self._models),
            web.get("/v1/models/{model}", self._model),
            web.post("/v1/embeddings", self._embeddings),
            web.post("/v1/chat/completions", self._chat),
            web.post("/v1/completions", self._complete),
        ]

    async def _models(self, _request: web.Request) -> web.Response:
        return json_response(openai.ModelList(data=[self._card]).model_dump())

    async def _model(self, request: web.Request) -> web.Response:
        openai.check_model(request.match_info["model"], model_name=self._answerer.config.model_name)
        return json_response(self._card.model_dump())

    async def _chat(self, http_request: web.Request) -> web.StreamResponse:
        call, body = await read_call(http_request)
        self._answerer.generator()
        request = openai_text.parse_chat(body, model_name=self._answerer.config.model_name)

        def read(model: Generator) -> Reading:
            prompt = ("messages", encoded_chat(model, request.plain_messages))
            return Reading(prompts=[prompt], wishes=request.all_wishes)

        return await self._tell(call, http_request, request, read)

    async def _complete(self, http_request: web.Request) -> web.StreamResponse:
        call, body = await read_call(http_request)
        self._answerer.generator()
        request = openai_text.parse_completion(body, model_name=self._answerer.config.model_name)

        def read(model: Generator) -> Reading:
            return Reading(prompts=[("prompt", model.engine.encode(request.prompt))], wishes=request.all_wishes)

        return await self._tell(call, http_request, request, read)

    async def _tell(
        self,
        call: Call,
        http_request: web.Request,
        request: openai_text.ChatRequest | openai_text.CompletionRequest,
        read: Callable[[Generator], Reading],
    ) -> web.StreamResponse:
        chat = isinstance(request, openai_text.ChatRequest)
        writer = openai_text.Writer(
            chat=chat,
            answer_id=f"{'chatcmpl' if chat else 'cmpl'}-{uuid4().hex}",
            created=int(time.time()),
            model=request.model,
            with_usage=request.with_usage,
        )
        if request.streamed:
            return await self._generating.streamed(call, http_request, read=read, events=writer)

        def write(texts: Sequence[Text]) -> bytes:
            (text,) = texts
            return writer.whole(text.text, finish=text.finish, usage=text.usage)

        content, headers = await self._generating.whole(call, read=read, write=write)
        return json_body(content, headers=headers)

    async def _embeddings(self, http_request: web.Request) -> web.Response:
        call, body = await read_call(http_request)
        model_name = self._answerer.config.model_name

        self._answerer.loaded(Task.TEXT_CLASSIFICATION)

        def read(model: Model) -> tuple[tuple[openai.EmbeddingsRequest, int], Items]:
            request = openai.parse_embeddings(body, model_name=model_name)
            stages = texts_of(model.engine)
            tokens = stages.pre(request.input)
            refuse_cut(stages, request.input, tokens, field="input")
            return (request, sum(len(ids) for ids in tokens)), tokens

        def write(model: Model, request: tuple[openai.EmbeddingsRequest, int], computed: Computed) -> bytes:
            return openai.embeddings_response(
                texts_of(model.engine).embeddings(computed.logits).tolist(),
                model_name=model_name,
                tokens=request[1],
                encoding_format=request[0].encoding_format,
            )

        answered = await self._answerer.answer(call, read=read, write=write)
        return json_body(answered.content, headers=server_headers(answered.terms))
