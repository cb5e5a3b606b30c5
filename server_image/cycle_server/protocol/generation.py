"""`POST /generate`: text from a language model in plain JSON, for people with curl. And what all protocols ask of one.

Server and sidecar share this file: no torch here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic_core import to_json

from cycle_server.engine.causal.request import Sampling
from cycle_server.protocol.errors import ProtocolError, invalid
from cycle_server.protocol.v2 import WHOLE, Part, no_default

MAXIMUM_NEW_TOKENS = 1_048_576  # what fits the model is less
MAXIMUM_STOPS = 4
MAXIMUM_STOP_CHARACTERS = 256
MAXIMUM_MESSAGES = 1024
MAXIMUM_TOP_K = 1_048_576
DEFAULT_NEW_TOKENS = 64  # of /generate and Open Inference Protocol

Stop = Annotated[str, Field(min_length=1, max_length=MAXIMUM_STOP_CHARACTERS)]
STOP_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": MAXIMUM_STOP_CHARACTERS},
        {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": MAXIMUM_STOP_CHARACTERS},
            "maxItems": MAXIMUM_STOPS,
        },
        {"type": "null"},
    ],
    "description": "The answer ends before the first of these.",
}
StopTexts = Annotated[
    list[Stop] | None,
    Field(max_length=MAXIMUM_STOPS),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    WithJsonSchema(STOP_SCHEMA),
]
MaximumTokens = Annotated[
    Annotated[int, Field(ge=1, le=MAXIMUM_NEW_TOKENS), WHOLE] | None,
    Field(description="Of the answer, at most; less when no more fit."),
]
Temperature = Annotated[
    float | None, Field(ge=0, le=2, allow_inf_nan=False, description="0: always the likeliest token.")
]
TopP = Annotated[
    float | None, Field(gt=0, le=1, allow_inf_nan=False, description="Draw from the likeliest that make up so much.")
]
TopK = Annotated[
    Annotated[int, Field(ge=0, le=MAXIMUM_TOP_K), WHOLE] | None,
    Field(description="Draw from so many likeliest; 0: all."),
]
Seed = Annotated[
    Annotated[int, Field(ge=-(2**63), le=2**63 - 1), WHOLE] | None,
    Field(description="The same draws again (nearly: see the docs)."),
]


@dataclass(frozen=True)
class Wishes:
    """What all protocols ask of an answer. ``new_tokens`` None: as many as fit."""

    new_tokens: int | None
    sampling: Sampling
    stops: tuple[str, ...]

    def canonical(self) -> dict[str, Any]:
        """Everything that can change the answer, with its defaults."""
        sampling = self.sampling
        drawn = {} if sampling.deterministic else {"top_p": sampling.top_p, "top_k": sampling.top_k}
        return {
            "new_tokens": self.new_tokens,
            "temperature": 0.0 if sampling.deterministic else sampling.temperature,
            "seed": None if sampling.deterministic else sampling.seed,
            "stops": sorted(set(self.stops)),
            **drawn,
        }


@dataclass(frozen=True)
class Usage:
    """Tokens."""

    prompt: int
    answer: int

    def fields(self) -> dict[str, int]:
        """As OpenAI names them."""
        total = self.prompt + self.answer
        return {"prompt_tokens": self.prompt, "completion_tokens": self.answer, "total_tokens": total}


class Drawing(Part):
    """How the next token is chosen, and where the answer ends; null is the default."""

    temperature: Temperature = None
    top_p: TopP = None
    top_k: TopK = None
    seed: Seed = None
    stop: StopTexts = None

    def wishes(self, new_tokens: int | None, *, temperature: float) -> Wishes:
        """``temperature``: the protocol's default."""
        return Wishes(
            new_tokens=new_tokens,
            sampling=Sampling(
                temperature=temperature if self.temperature is None else self.temperature,
                top_p=1.0 if self.top_p is None else self.top_p,
                top_k=self.top_k or 0,
                seed=self.seed,
            ),
            stops=tuple(self.stop or ()),
        )


class TextPart(Part):
    type: Literal["text"]
    text: str


def _joined(content: Any) -> Any:
    """A list of text parts is one text."""
    parts = content if isinstance(content, list) else None
    if parts and all(isinstance(part, dict) and part.get("type") == "text" for part in parts):
        texts = [part.get("text") for part in parts]
        if all(isinstance(text, str) for text in texts) and all(set(part) == {"type", "text"} for part in parts):
            return "\n".join(texts)
    return content


CONTENT_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                "required": ["type", "text"],
                "additionalProperties": False,
            },
        },
    ]
}
Content = Annotated[str, BeforeValidator(_joined), WithJsonSchema(CONTENT_SCHEMA)]


class Message(Part):
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: str | None = Field(None, max_length=64, description="Changes nothing.")

    def plain(self) -> dict[str, str]:
        """As chat templates know it; ``developer`` is OpenAI's newer word for ``system``."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.content}


Messages = Annotated[list[Message], Field(min_length=1, max_length=MAXIMUM_MESSAGES)]


class GenerateRequest(Drawing):
    """Exactly one of ``prompt`` and ``messages``."""

    model_config = {"json_schema_extra": {"oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}]}}

    prompt: str = Field("", description="A text to go on with.", json_schema_extra=no_default)
    messages: Messages = Field(
        default_factory=list,
        description="A chat to answer, for models with a chat template.",
        json_schema_extra={"examples": [[{"role": "user", "content": "a"}]]},
    )
    max_tokens: MaximumTokens = None
    stream: bool = Field(False, description="Send the text as it comes, as server-sent events.")

    @property
    def source(self) -> str:
        """The field that the text came from."""
        return "messages" if "messages" in self.model_fields_set else "prompt"

    @property
    def plain_messages(self) -> list[dict[str, str]]:
        return [message.plain() for message in self.messages]

    @property
    def all_wishes(self) -> Wishes:
        return self.wishes(self.max_tokens or DEFAULT_NEW_TOKENS, temperature=0.0)

    def canonical(self) -> dict[str, Any]:
        asked: Any = self.plain_messages if self.source == "messages" else self.prompt
        return {self.source: asked, "stream": self.stream, **self.all_wishes.canonical()}


class GenerateUsage(Part):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class GenerateResponse(Part):
    """``finish_reason``: stop when the model ended or a stop text came, length when there was no room for more."""

    model: str
    version: str
    text: str
    finish_reason: Literal["stop", "length"]
    usage: GenerateUsage


def parse_generate(body: bytes) -> GenerateRequest:
    """Raises ProtocolError with the field's name."""
    try:
        request = GenerateRequest.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from error
    given = request.model_fields_set & {"prompt", "messages"}
    if len(given) != 1:
        raise ProtocolError(f"exactly one of prompt and messages must be given, there are {len(given)}", field="prompt")
    return request


def generate_response(*, model: str, version: str, text: str, finish: str, usage: Usage) -> bytes:
    answer = {"model": model, "version": version, "text": text, "finish_reason": finish, "usage": usage.fields()}
    return to_json(answer)


DONE = b"data: [DONE]\n\n"


def event(content: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + to_json(content) + b"\n\n"


class GenerateEvents:
    """/generate's answer as it comes."""

    def begin(self) -> Sequence[bytes]:
        return []

    def piece(self, text: str) -> Sequence[bytes]:
        return [event({"text": text})]

    def end(self, *, finish: str, usage: Usage) -> Sequence[bytes]:
        return [event({"text": "", "finish_reason": finish, "usage": usage.fields()}), DONE]
