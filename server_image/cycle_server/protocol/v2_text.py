"""Open Inference Protocol v2 for text generation: the same messages as for classification, with other outputs.

One input, ``text`` BYTES [n], each a prompt. Outputs ``generated_text`` BYTES [n] and ``finish_reason`` BYTES [n]. How
to generate stands in the request's ``parameters``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from cycle_server.protocol import binary, v2
from cycle_server.protocol.generation import (
    DEFAULT_NEW_TOKENS,
    Drawing,
    MaximumTokens,
    Wishes,
)
from cycle_server.protocol.tensors import Tensor

MAXIMUM_PROMPTS = 32

TextOutputName = Literal["generated_text", "finish_reason"]
OUTPUTS: tuple[TextOutputName, ...] = ("generated_text", "finish_reason")


class TextParameters(Drawing, v2.RequestParameters):
    """``temperature`` 0 when it isn't given."""

    max_tokens: MaximumTokens = None


class TextInput(v2.Input):
    data: list[str] = Field(min_length=1, max_length=MAXIMUM_PROMPTS)


class TextOutput(v2.Part):
    name: TextOutputName
    parameters: v2.OutputParameters = v2.OutputParameters()


class TextInferRequest(v2.InferRequest):
    parameters: TextParameters = TextParameters()
    inputs: list[TextInput] = Field(min_length=1, max_length=1)  # type: ignore[assignment]  # narrower
    outputs: list[TextOutput] = Field(  # type: ignore[assignment]  # other names
        default_factory=lambda: [TextOutput(name=name) for name in OUTPUTS],
        min_length=1,
        max_length=2,
        description="Each at most once; left out: both.",
    )

    @property
    def wishes(self) -> Wishes:
        return self.parameters.wishes(self.parameters.max_tokens or DEFAULT_NEW_TOKENS, temperature=0.0)


def read(body: bytes, *, header_length: str | None) -> TextInferRequest:
    """As binary.read. Raises ProtocolError with the field's name."""
    request = binary.read(body, header_length=header_length, kind=TextInferRequest)
    assert isinstance(request, TextInferRequest)
    return request


def output_tensors(request: TextInferRequest, answers: Sequence[tuple[str, str]]) -> list[Tensor]:
    """``answers``: text and finish reason of each prompt."""
    columns = {name: [answer[i] for answer in answers] for i, name in enumerate(OUTPUTS)}
    return [Tensor(output.name, "BYTES", [len(answers)], columns[output.name]) for output in request.outputs]


def model_metadata(*, model_name: str, model_version: str) -> Mapping[str, Any]:
    return {
        "name": model_name,
        "versions": [model_version],
        "platform": "cycleops_torch",
        "inputs": [{"name": v2.INPUT_NAME, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in OUTPUTS],
    }
