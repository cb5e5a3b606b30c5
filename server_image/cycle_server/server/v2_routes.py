"""Open Inference Protocol v2 over HTTP, with the binary tensor extension."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from aiohttp import web

from cycle_server.batching.batcher import Computed
from cycle_server.engine.stages import TranslationStages
from cycle_server.items import Items
from cycle_server.protocol import binary, v2, v2_text, v2_translation
from cycle_server.protocol.tensors import Tensor
from cycle_server.protocol.timing import server_headers
from cycle_server.server.answering import Answerer, Call
from cycle_server.server.generating import Generating, Reading, Text
from cycle_server.server.generator import Generator
from cycle_server.server.http import json_body, json_response, read_call
from cycle_server.server.lifecycle import Model
from cycle_server.server.reading import items_of, kind_read_by
from cycle_wire.parts import Task

BINARY_TYPE = "application/octet-stream"


def answer_tensors(model: Model, request: v2.InferRequest, computed: Computed) -> list[Tensor]:
    """Raises ArithmeticError when the model's output isn't finite."""
    if isinstance(model.engine, TranslationStages):
        return v2_translation.output_tensors(model.engine.post(computed.logits))
    answers = model.engine.post(computed.logits)
    wanted = "probabilities" in request.output_names
    return v2.output_tensors(
        request,
        labels=answers.labels,
        probability=answers.probability,
        probabilities=answers.probabilities.tolist() if wanted else [],
    )


def _tensors(content: bytes, json_bytes: int, headers: Mapping[str, str]) -> web.Response:
    if json_bytes == len(content):
        return json_body(content, headers=headers)
    return web.Response(body=content, content_type=BINARY_TYPE, headers={**headers, v2.TENSOR_HEADER: str(json_bytes)})


class V2Routes:
    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._generating = Generating(answerer)

    def routes(self) -> list[web.RouteDef]:
        routes = [
            web.get("/v2", self._server_metadata),
            web.get("/v2/health/live", self._live),
            web.get("/v2/health/ready", self._ready),
        ]
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes += [
                web.get(model, self._model_metadata),
                web.get(f"{model}/ready", self._model_ready),
                web.post(f"{model}/infer", self._infer),
            ]
        return routes

    async def _server_metadata(self, _request: web.Request) -> web.Response:
        return json_response(v2.server_metadata(version=version("cycle-server")))

    async def _live(self, _request: web.Request) -> web.Response:
        live = self._answerer.live
        return json_response({"live": live}, status=200 if live else 503)

    async def _ready(self, _request: web.Request) -> web.Response:
        ready = self._answerer.ready
        return json_response({"ready": ready}, status=200 if ready else 503)

    async def _model_ready(self, request: web.Request) -> web.Response:
        self._check_model(request)
        ready, name = self._answerer.ready, self._answerer.config.model_name
        return json_response({"name": name, "ready": ready}, status=200 if ready else 503)

    async def _model_metadata(self, request: web.Request) -> web.Response:
        self._check_model(request)
        return json_response(self._answerer.model_metadata())

    async def _infer(self, http_request: web.Request) -> web.Response:
        self._check_model(http_request)
        call, body = await read_call(http_request)
        header_length = http_request.headers.get(v2.TENSOR_HEADER)
        if self._answerer.task is Task.LANGUAGE_MODELING:
            (content, json_bytes), headers = await self._generate(call, body, header_length)
            return _tensors(content, json_bytes, headers)

        def read(model: Model) -> tuple[v2.InferRequest, Items]:
            request = binary.read(body, header_length=header_length, kind=kind_read_by(model.engine))
            return request, items_of(model.engine, request)

        answered = await self._answerer.answer(call, read=read, write=self._write)
        content, json_bytes = answered.content
        return _tensors(content, json_bytes, server_headers(answered.terms))

    async def _generate(
        self, call: Call, body: bytes, header_length: str | None
    ) -> tuple[tuple[bytes, int], dict[str, str]]:
        request = v2_text.read(body, header_length=header_length)

        def read(model: Generator) -> Reading:
            prompts = [(f"inputs[0].data[{i}]", model.engine.encode(text)) for i, text in enumerate(request.texts)]
            return Reading(prompts=prompts, wishes=request.wishes)

        def write(texts: Sequence[Text]) -> tuple[bytes, int]:
            return binary.write(
                v2_text.output_tensors(request, [(text.text, text.finish) for text in texts]),
                model_name=self._answerer.config.model_name,
                model_version=self._answerer.version,
                request=request,
            )

        return await self._generating.whole(call, read=read, write=write)

    def _write(self, model: Model, request: v2.InferRequest, computed: Computed) -> tuple[bytes, int]:
        return binary.write(
            answer_tensors(model, request, computed),
            model_name=self._answerer.config.model_name,
            model_version=self._answerer.version,
            request=request,
        )

    def _check_model(self, request: web.Request) -> None:
        self._answerer.check_model(request.match_info["model"], request.match_info.get("version"))
