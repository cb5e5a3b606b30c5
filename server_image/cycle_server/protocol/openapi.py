"""The OpenAPI document of the server's HTTP endpoints, from the models that read the requests."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from cycle_server.protocol import generation, openai, openai_text, tasks, v2, v2_image, v2_text, v2_translation
from cycle_server.protocol.openapi_bodies import (
    ErrorBody,
    InferResponseBody,
    LiveBody,
    ModelMetadataBody,
    ModelReadyBody,
    ReadyBody,
    ServerMetadataBody,
    TextInferResponseBody,
    TranslationInferResponseBody,
)
from cycle_wire.headers import DEADLINE_HEADER
from cycle_wire.parts import Task

JsonObject = dict[str, Any]
JSON = "application/json"
BYTES = "application/octet-stream"
EVENTS = "text/event-stream"
CHAT_PATH = "/v1/chat/completions"
DEADLINE = {
    "name": DEADLINE_HEADER,
    "in": "header",
    "required": False,
    "description": "Milliseconds that the client still waits. What can't be answered within it is refused at once.",
    "schema": {"type": "number", "minimum": 0},
}


COMMON: tuple[type[BaseModel], ...] = (
    *(ErrorBody, LiveBody, ReadyBody, ModelReadyBody, ServerMetadataBody, ModelMetadataBody),
    *(openai.ModelList, openai.ModelCard, openai.ErrorResponse),
)
MODELS: dict[Task, tuple[type[BaseModel], ...]] = {
    Task.TEXT_CLASSIFICATION: (
        *(v2.InferRequest, InferResponseBody, tasks.ClassifyRequest, tasks.ClassifyResponse),
        *(openai.EmbeddingsRequest, openai.EmbeddingsResponse),
    ),
    Task.IMAGE_CLASSIFICATION: (
        *(v2_image.ImageInferRequest, InferResponseBody, tasks.ClassifyImagesRequest, tasks.ClassifyResponse),
    ),
    Task.RECOMMENDATION: (*(v2.InferRequest, InferResponseBody, tasks.RecommendRequest, tasks.RecommendResponse),),
    Task.LANGUAGE_MODELING: (
        *(v2_text.TextInferRequest, TextInferResponseBody, generation.GenerateRequest, generation.GenerateResponse),
        *(openai_text.ChatRequest, openai_text.ChatResponse),
        *(openai_text.CompletionRequest, openai_text.CompletionResponse),
    ),
    Task.TRANSLATION: (
        *(v2_translation.TranslationInferRequest, TranslationInferResponseBody),
        *(tasks.TranslateRequest, tasks.TranslateResponse),
    ),
}


def document(
    *,
    task: Task,
    model_name: str,
    model_version: str,
    server_version: str,
    grpc_port: int,
    image_shape: Sequence[int] = (),
) -> JsonObject:
    """``grpc_port`` 0: none. ``image_shape``: (channels, height, width), of a model of images."""
    over_grpc = f" Open Inference Protocol over gRPC is on port {grpc_port}." if grpc_port else ""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"CycleOps: {model_name}",
            "version": server_version,
            "description": f"Version {model_version} of the model {model_name}.{over_grpc}",
        },
        "paths": {
            **_task_paths(task, model_name, image_shape),
            **_openai_paths(model_name),
            **_v2_paths(model_name, model_version, _infer(task, image_shape)),
        },
        "components": {"schemas": _schemas(task, model_name)},
    }


def _task_paths(task: Task, model_name: str, image_shape: Sequence[int]) -> JsonObject:
    if task is Task.LANGUAGE_MODELING:
        return _generate_paths(model_name)
    if task is Task.TEXT_CLASSIFICATION:
        return _classify_paths(model_name)
    if task is Task.TRANSLATION:
        answers = _answers(tasks.TranslateResponse, errors=(400, 404, 413, 429, 503))
        asked = {"texts": ["a small dog", "the blue sky"]}
        return {
            "/translate": {"post": _operation("Translate texts", answers, body=tasks.TranslateRequest, example=asked)}
        }
    if task is Task.RECOMMENDATION:
        answers = _answers(tasks.RecommendResponse, errors=(400, 413, 429, 503))
        given = {"items": ["a", "b"], "top": 5}
        return {"/recommend": {"post": _operation("Recommend", answers, body=tasks.RecommendRequest, example=given)}}
    answers = _answers(tasks.ClassifyResponse, errors=(400, 413, 429, 503))
    black = v2_image.black(image_shape)
    example = {"images": [black]} if black else None
    classify = _operation("Classify images", answers, body=tasks.ClassifyImagesRequest, example=example)
    return {"/classify": {"post": classify}}


def _classify_paths(model_name: str) -> JsonObject:
    example = {"texts": ["a small dog", "the blue sky"]}
    answers = _answers(tasks.ClassifyResponse, errors=(400, 413, 429, 503))
    classify = _operation("Classify texts", answers, body=tasks.ClassifyRequest, example=example)
    asked = {"model": model_name, "input": ["a small dog"]}
    answers = _answers(openai.EmbeddingsResponse, errors=(400, 404, 413, 429, 503), error=openai.ErrorResponse)
    embed = _operation("Embed texts (OpenAI)", answers, body=openai.EmbeddingsRequest, example=asked)
    return {"/classify": {"post": classify}, "/v1/embeddings": {"post": embed}}


def _generate_paths(model_name: str) -> JsonObject:
    prompt, messages = "Once upon a time", [{"role": "user", "content": "Tell me of the sea."}]
    generate = {"prompt": prompt, "max_tokens": 32}
    chat = {"model": model_name, "messages": messages, "max_tokens": 32}
    complete = {"model": model_name, "prompt": prompt, "max_tokens": 32}
    plain, openais = ErrorBody, openai.ErrorResponse
    paths: JsonObject = {}
    for path, summary, asked, given, error, example in (
        ("/generate", "Generate text", generation.GenerateRequest, generation.GenerateResponse, plain, generate),
        (CHAT_PATH, "Answer a chat (OpenAI)", openai_text.ChatRequest, openai_text.ChatResponse, openais, chat),
        (
            "/v1/completions",
            "Complete a text (OpenAI)",
            openai_text.CompletionRequest,
            openai_text.CompletionResponse,
            openais,
            complete,
        ),
    ):
        answers = _answers(given, errors=(400, 404, 413, 429, 503), error=error)
        answers["200"]["description"] += " With stream: server-sent events, each a JSON object; the last is [DONE]."
        answers["200"]["content"][EVENTS] = {}  # OpenAPI 3.1 has no schema for one event
        paths[path] = {"post": _operation(summary, answers, body=asked, example=example)}
    return paths


def _openai_paths(model_name: str) -> JsonObject:
    model = _answers(openai.ModelCard, errors=(404,), error=openai.ErrorResponse)
    return {
        "/v1/models": {"get": _operation("List models (OpenAI)", _answers(openai.ModelList))},
        "/v1/models/{model}": {
            "parameters": [_path_parameter("model", model_name)],
            "get": _operation("One model (OpenAI)", model),
        },
    }


def _v2_paths(model_name: str, model_version: str, infer: JsonObject) -> JsonObject:
    paths: JsonObject = {
        "/v2": {"get": _operation("The server", _answers(ServerMetadataBody))},
        "/v2/health/live": {"get": _operation("Is it live?", _answers(LiveBody, also=503))},
        "/v2/health/ready": {"get": _operation("Is it ready?", _answers(ReadyBody, also=503))},
    }
    binary = "With binary outputs: JSON as long as Inference-Header-Content-Length says, and their bytes behind it."
    answer = infer["responses"]["200"]
    answer["content"][BYTES] = {"schema": {"type": "string", "format": "binary", "description": binary}}
    answer["headers"] = {v2.TENSOR_HEADER: {"schema": {"type": "integer"}}}
    name, at_version = _path_parameter("model", model_name), _path_parameter("version", model_version)
    for path, parameters in (
        ("/v2/models/{model}", [name]),
        ("/v2/models/{model}/versions/{version}", [name, at_version]),
    ):
        described = _operation("The model", _answers(ModelMetadataBody, errors=(404,)))
        ready = _operation("Is the model ready?", _answers(ModelReadyBody, errors=(404,), also=503))
        paths[path] = {"parameters": parameters, "get": described}
        paths[f"{path}/ready"] = {"parameters": parameters, "get": ready}
        paths[f"{path}/infer"] = {"parameters": parameters, "post": infer}
    return paths


def _infer(task: Task, image_shape: Sequence[int]) -> JsonObject:
    errors = (400, 404, 413, 429, 503)
    if task is Task.IMAGE_CLASSIFICATION:
        black = v2_image.black(image_shape)
        tensor = {"name": "image", "shape": [1, *image_shape], "datatype": "UINT8", "data": [black]}
        asked = {"inputs": [tensor]} if black else None
        summary = "Classify images (Open Inference Protocol)"
        answers = _answers(InferResponseBody, errors=errors)
        return _operation(summary, answers, body=v2_image.ImageInferRequest, example=asked)
    example: JsonObject = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a small dog"]}]}
    if task is Task.LANGUAGE_MODELING:
        example["parameters"] = {"max_tokens": 32}
        answers = _answers(TextInferResponseBody, errors=errors)
        summary = "Generate text (Open Inference Protocol)"
        return _operation(summary, answers, body=v2_text.TextInferRequest, example=example)
    if task is Task.TRANSLATION:
        answers = _answers(TranslationInferResponseBody, errors=errors)
        summary = "Translate texts (Open Inference Protocol)"
        return _operation(summary, answers, body=v2_translation.TranslationInferRequest, example=example)
    answers = _answers(InferResponseBody, errors=errors)
    if task is Task.RECOMMENDATION:
        example["inputs"][0]["data"] = ['["a", "b"]']
        return _operation("Recommend (Open Inference Protocol)", answers, body=v2.InferRequest, example=example)
    return _operation("Classify texts (Open Inference Protocol)", answers, body=v2.InferRequest, example=example)


def _schemas(task: Task, model_name: str) -> JsonObject:
    _, definitions = models_json_schema(
        [(model, "validation") for model in (*COMMON, *MODELS[task])], ref_template="#/components/schemas/{model}"
    )
    schemas: JsonObject = definitions["$defs"]
    for name in {"EmbeddingsRequest", "ChatRequest", "CompletionRequest"}.intersection(schemas):
        schemas[name]["properties"]["model"]["enum"] = [model_name]
    return schemas


def _operation(
    summary: str, answers: JsonObject, *, body: type[BaseModel] | None = None, example: JsonObject | None = None
) -> JsonObject:
    if body is None:
        return {"summary": summary, "responses": answers}
    content = {JSON: {"schema": _reference(body), **({"example": example} if example else {})}}
    return {
        "summary": summary,
        "parameters": [DEADLINE],
        "requestBody": {"required": True, "content": content},
        "responses": answers,
    }


def _answers(
    model: type[BaseModel], *, errors: tuple[int, ...] = (), error: type[BaseModel] = ErrorBody, also: int | None = None
) -> JsonObject:
    """``also``: another status with the same body."""
    meanings = {
        200: "The answer.",
        400: "The request is wrong; the field is named.",
        404: "Another model or version is served here.",
        413: f"The body is longer than {v2.MAXIMUM_BODY_BYTES} bytes.",
        429: "The tenant sends more than its limit.",
        503: "Not ready, or too busy to answer in time.",
    }
    bodies = {200: model, **({also: model} if also else {}), **dict.fromkeys(errors, error)}
    answers: JsonObject = {
        str(status): {"description": meanings[status], "content": {JSON: {"schema": _reference(body)}}}
        for status, body in bodies.items()
    }
    for status in {429, 503}.intersection(errors):
        seconds = {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}
        answers[str(status)]["headers"] = {"Retry-After": seconds}
    return answers


def _path_parameter(name: str, value: str) -> JsonObject:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": [value]}}


def _reference(model: type[BaseModel]) -> JsonObject:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
