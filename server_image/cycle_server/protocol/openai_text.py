"""OpenAI's chat completions and completions: requests, answers and the events of a stream.

What isn't here is refused by its name. Server and sidecar share this file: no torch here.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError, to_json

from cycle_server.protocol.errors import ProtocolError, invalid
from cycle_server.protocol.generation import DONE, Drawing, MaximumTokens, Messages, Usage, Wishes, event
from cycle_server.protocol.openai import check_model
from cycle_server.protocol.v2 import WHOLE, Part

COMPLETION_TOKENS = 16  # OpenAI's default for completions
TEMPERATURE = 1.0  # and for both

One = Annotated[Annotated[int, Field(ge=1, le=1), WHOLE] | None, Field(description="One answer to each request.")]


def _not_built(value: Any) -> Any:
    if value:
        raise PydanticCustomError("not_built", "is not built here")
    return value


Off = Annotated[
    float | None, AfterValidator(_not_built), WithJsonSchema({"enum": [0, None], "description": "Not built."})
]
No = Annotated[
    bool | None, AfterValidator(_not_built), WithJsonSchema({"enum": [False, None], "description": "Not built."})
]


class StreamOptions(Part):
    include_usage: bool | None = Field(None, description="Send the counts of tokens as the last event.")


class ResponseFormat(Part):
    type: Literal["text"]


class _Request(Drawing):
    """What both have."""

    model: str = Field(max_length=256)
    max_tokens: MaximumTokens = None
    n: One = None
    stream: bool | None = Field(None, description="Send the text as it comes, as server-sent events.")
    stream_options: StreamOptions | None = None
    presence_penalty: Off = None
    frequency_penalty: Off = None
    user: str | None = Field(None, max_length=256, description="Changes nothing.")

    @property
    def streamed(self) -> bool:
        return bool(self.stream)

    @property
    def with_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def _canonical(self, **asked: Any) -> dict[str, Any]:
        told = {"stream": self.streamed, "usage": self.streamed and self.with_usage}
        return {"model": self.model, **told, **asked}


class ChatRequest(_Request):
    messages: Messages
    max_completion_tokens: MaximumTokens = None
    logprobs: No = None
    top_logprobs: Off = None
    response_format: ResponseFormat | None = None

    @property
    def plain_messages(self) -> list[dict[str, str]]:
        return [message.plain() for message in self.messages]

    @property
    def all_wishes(self) -> Wishes:
        return self.wishes(self.max_completion_tokens or self.max_tokens, temperature=TEMPERATURE)

    def canonical(self) -> dict[str, Any]:
        return self._canonical(messages=self.plain_messages, **self.all_wishes.canonical())


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


class CompletionRequest(_Request):
    prompt: Annotated[
        str,
        BeforeValidator(_single),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string"},
                    {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1},
                ],
                "description": "One text to go on with. Token ids are not taken.",
            }
        ),
    ]
    echo: No = None
    logprobs: None = Field(None, description="Not built.")
    best_of: One = None

    @property
    def all_wishes(self) -> Wishes:
        return self.wishes(self.max_tokens or COMPLETION_TOKENS, temperature=TEMPERATURE)

    def canonical(self) -> dict[str, Any]:
        return self._canonical(prompt=self.prompt, **self.all_wishes.canonical())


class TextUsage(Part):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AssistantMessage(Part):
    role: Literal["assistant"]
    content: str


class ChatChoice(Part):
    index: Literal[0]
    message: AssistantMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None


class ChatResponse(Part):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TextUsage


class CompletionChoice(Part):
    index: Literal[0]
    text: str
    finish_reason: Literal["stop", "length"]
    logprobs: None


class CompletionResponse(Part):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: TextUsage


Parsed = TypeVar("Parsed", bound=BaseModel)


def parse_chat(body: bytes, *, model_name: str) -> ChatRequest:
    """Raises ProtocolError with the field's name."""
    request = _parse(ChatRequest, body)
    check_model(request.model, model_name=model_name)
    both = (request.max_tokens, request.max_completion_tokens)
    if None not in both and both[0] != both[1]:
        raise ProtocolError("differs from max_completion_tokens, its newer name", field="max_tokens")
    return request


def parse_completion(body: bytes, *, model_name: str) -> CompletionRequest:
    """Raises ProtocolError with the field's name."""
    request = _parse(CompletionRequest, body)
    check_model(request.model, model_name=model_name)
    return request


def _parse(kind: type[Parsed], body: bytes) -> Parsed:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from error


class Writer:
    """Writes one request's answer, whole or as events. ``chat``: as chat completions have it."""

    def __init__(self, *, chat: bool, answer_id: str, created: int, model: str, with_usage: bool) -> None:
        self._chat = chat
        kind = ("chat.completion", "chat.completion.chunk") if chat else ("text_completion", "text_completion")
        self._whole = {"id": answer_id, "object": kind[0], "created": created, "model": model}
        self._part = {**self._whole, "object": kind[1]}
        self._with_usage = with_usage

    def whole(self, text: str, *, finish: str, usage: Usage) -> bytes:
        said = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        choice = {"index": 0, **said, "finish_reason": finish, "logprobs": None}
        return to_json({**self._whole, "choices": [choice], "usage": usage.fields()})

    def begin(self) -> Sequence[bytes]:
        return [self._event({"role": "assistant", "content": ""})] if self._chat else []

    def piece(self, text: str) -> Sequence[bytes]:
        return [self._event({"content": text} if self._chat else text)]

    def end(self, *, finish: str, usage: Usage) -> Sequence[bytes]:
        events = [self._event({} if self._chat else "", finish=finish)]
        if self._with_usage:
            events.append(event({**self._part, "choices": [], "usage": usage.fields()}))
        return [*events, DONE]

    def _event(self, said: dict[str, str] | str, *, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta" if self._chat else "text": said, "finish_reason": finish, "logprobs": None}
        usage = {"usage": None} if self._with_usage else {}
        return event({**self._part, "choices": [choice], **usage})
