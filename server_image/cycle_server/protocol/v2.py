"""Open Inference Protocol v2 for text classification (github.com/kserve/open-inference-protocol, REST).

One input, ``text`` BYTES [n]. Outputs ``label`` BYTES [n] and ``probability`` FP32 [n]; ``probabilities`` FP32
[n, classes] when the request's ``outputs`` ask for it. Server and sidecar share this file: no torch here.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

MAXIMUM_BODY_BYTES = 1024 * 1024
MAXIMUM_TEXTS = 256
INPUT_NAME = "text"
DEFAULT_OUTPUTS = ("label", "probability")
TENSOR_HEADER = "Inference-Header-Content-Length"  # of the binary tensor extension, which isn't spoken here

OutputName = Literal["label", "probability", "probabilities"]


class ProtocolError(ValueError):
    """A request that can't be answered as it is; ``field`` names what to mend, such as ``inputs[0].shape``."""

    def __init__(self, message: str, *, field: str = "", status: int = 400) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.status = status

    def body(self) -> bytes:
        return to_json({"error": str(self), **({"field": self.field} if self.field else {})})


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(_Part):
    name: Literal["text"]
    shape: list[int] = Field(min_length=1, max_length=1)
    datatype: Literal["BYTES"]
    data: list[str] = Field(min_length=1, max_length=MAXIMUM_TEXTS)
    parameters: dict[str, Any] = Field(default_factory=dict)


class Output(_Part):
    name: OutputName
    parameters: dict[str, Any] = Field(default_factory=dict)


class InferRequest(_Part):
    id: str | None = Field(None, max_length=256)
    parameters: dict[str, Any] = Field(default_factory=dict)
    inputs: list[Input] = Field(min_length=1, max_length=1)
    outputs: list[Output] = Field(default_factory=lambda: [Output(name=name) for name in DEFAULT_OUTPUTS], max_length=3)

    @property
    def texts(self) -> list[str]:
        return self.inputs[0].data

    @property
    def output_names(self) -> list[OutputName]:
        return [output.name for output in self.outputs]

    def canonical(self) -> dict[str, Any]:
        """Everything that can change the answer, with defaults filled; the id, which can't, is left out."""
        return self.model_dump(exclude={"id"})


def parse_infer(body: bytes) -> InferRequest:
    """Raises ProtocolError with the field's name."""
    try:
        request = InferRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise ProtocolError(first["msg"], field=field_path(first["loc"])) from error
    if request.inputs[0].shape != [len(request.texts)]:
        raise ProtocolError(f"is {request.inputs[0].shape}, data has {len(request.texts)}", field="inputs[0].shape")
    names = request.output_names
    if not names or len(set(names)) != len(names):
        raise ProtocolError("must name each output once, or be left out", field="outputs")
    return request


def field_path(location: Sequence[str | int]) -> str:
    """('inputs', 0, 'shape') -> 'inputs[0].shape'; what isn't in any field is the body."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".") or "body"


def infer_request(text: str) -> bytes:
    """The body of a request for one text."""
    return to_json({"inputs": [{"name": INPUT_NAME, "shape": [1], "datatype": "BYTES", "data": [text]}]})


def infer_response(
    *,
    model_name: str,
    model_version: str,
    request: InferRequest,
    labels: Sequence[str],
    probability: Sequence[float],
    probabilities: Sequence[Sequence[float]],
) -> bytes:
    """The answer's JSON; ``probabilities`` (n, classes) is flattened row by row, as the protocol asks."""
    count = len(labels)
    tensors: dict[OutputName, dict[str, Any]] = {
        "label": {"datatype": "BYTES", "shape": [count], "data": labels},
        "probability": {"datatype": "FP32", "shape": [count], "data": probability},
    }
    if "probabilities" in request.output_names:
        tensors["probabilities"] = {
            "datatype": "FP32",
            "shape": [count, len(probabilities[0])],
            "data": [value for row in probabilities for value in row],
        }
    answer: dict[str, Any] = {"model_name": model_name, "model_version": model_version}
    if request.id is not None:
        answer["id"] = request.id
    answer["outputs"] = [{"name": name, **tensors[name]} for name in request.output_names]
    return to_json(answer)


def server_metadata(*, version: str) -> dict[str, Any]:
    return {"name": "cycle-server", "version": version, "extensions": []}


def model_metadata(*, model_name: str, model_version: str, classes: int) -> dict[str, Any]:
    return {
        "name": model_name,
        "versions": [model_version],
        "platform": "cycleops_torch",
        "inputs": [{"name": INPUT_NAME, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "probability", "datatype": "FP32", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]},
        ],
    }
