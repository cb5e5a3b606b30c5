"""The part of OpenAI's API that an encoder can answer: embeddings and the list of models.

An embedding is the mean of the last hidden states over a text's tokens, scaled to length 1 (as MiniLM's sentence
embedding is), of the encoder as it was trained for its task.
"""

import base64
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic_core import to_json

from cycle_server.protocol.errors import ProtocolError, invalid
from cycle_server.protocol.v2 import MAXIMUM_TEXTS, Part

TEXTS_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAXIMUM_TEXTS},
    ],
    "description": "One text or several. Token ids are not taken: they would be another tokenizer's.",
}
Texts = Annotated[
    list[str],
    Field(min_length=1, max_length=MAXIMUM_TEXTS),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    WithJsonSchema(TEXTS_SCHEMA),
]


class EmbeddingsRequest(Part):
    model: str = Field(max_length=256)
    input: Texts
    encoding_format: Literal["float", "base64"] = Field("float", description="base64: of float32, little-endian.")
    user: str | None = Field(None, max_length=256, description="Changes nothing.")


class Embedding(Part):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(Part):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(Part):
    """``data`` in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class ModelCard(Part):
    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix seconds at which this server started.")
    owned_by: Literal["cycleops"] = "cycleops"


class ModelList(Part):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class ErrorDetail(Part):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(Part):
    error: ErrorDetail


def parse_embeddings(body: bytes, *, model_name: str) -> EmbeddingsRequest:
    """Raises ProtocolError with the field's name."""
    try:
        request = EmbeddingsRequest.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from error
    check_model(request.model, model_name=model_name)
    return request


def check_model(wanted: str, *, model_name: str) -> None:
    """Raises ProtocolError."""
    if wanted != model_name:
        raise ProtocolError(f"unknown model {wanted!r}, this is {model_name!r}", field="model", status=404)


def embeddings_response(
    vectors: Sequence[Sequence[float]], *, model_name: str, tokens: int, encoding_format: str
) -> bytes:
    """``vectors`` (n, hidden); ``tokens`` of all texts."""
    encode = _base64 if encoding_format == "base64" else list
    data = [{"object": "embedding", "index": i, "embedding": encode(vector)} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return to_json({"object": "list", "data": data, "model": model_name, "usage": usage})


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def error_response(message: str, *, field: str = "", status: int) -> bytes:
    """As OpenAI's clients expect it; ``param`` is the field to mend."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    detail = ErrorDetail(
        message=message, type=kind, param=field or None, code="model_not_found" if status == 404 else None
    )
    return ErrorResponse(error=detail).model_dump_json().encode()
