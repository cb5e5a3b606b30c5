"""Open Inference Protocol v2 for text classification (github.com/kserve/open-inference-protocol, REST).

What other tasks take extends it.

One input, ``text`` BYTES [n]. Outputs ``label`` BYTES [n] and ``probability`` FP32 [n]; ``probabilities`` FP32
[n, classes] when the request's ``outputs`` ask for it. Server and sidecar share this file: no torch here.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from cycle_server.protocol.errors import ProtocolError as ProtocolError
from cycle_server.protocol.errors import invalid
from cycle_server.protocol.tensors import Tensor, read_texts

MAXIMUM_BODY_BYTES = 1024 * 1024
MAXIMUM_TEXTS = 256
INPUT_NAME = "text"
TENSOR_HEADER = "Inference-Header-Content-Length"  # of the binary tensor extension: see binary.py

OutputName = Literal["label", "probability", "probabilities"]
DEFAULT_OUTPUTS: tuple[OutputName, ...] = ("label", "probability")


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)  # JSON's 2.0 is an integer too; bounds stand before it, or the schema lacks them
Integer = Annotated[int, WHOLE]


def no_default(schema: dict[str, Any]) -> None:
    """For the schema of a field that must be given, though the model has a default."""
    del schema["default"]


class Part(BaseModel):
    """Of a request or an answer: nothing is converted, unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Parameters(Part):
    """Those that aren't known here change nothing."""

    model_config = ConfigDict(extra="allow")


class OutputParameters(Parameters):
    binary_data: bool | None = Field(None, description="Binary tensor extension: this output as bytes after the JSON.")


class RequestParameters(Parameters):
    binary_data_output: bool = Field(False, description="Binary tensor extension: all outputs as bytes after the JSON.")


class Input(Part):
    name: Literal["text"]
    shape: list[Integer] = Field(min_length=1, max_length=1, description="[n], the number of texts.")
    datatype: Literal["BYTES"]
    data: list[str] = Field(min_length=1, max_length=MAXIMUM_TEXTS, fail_fast=True)
    parameters: dict[str, Any] = Field(default_factory=dict)


class Output(Part):
    name: OutputName
    parameters: OutputParameters = OutputParameters()


class InferRequest(Part):
    id: str | None = Field(None, max_length=256)
    parameters: RequestParameters = RequestParameters()
    inputs: list[Input] = Field(min_length=1, max_length=1)
    outputs: list[Output] = Field(
        default_factory=lambda: [Output(name=name) for name in DEFAULT_OUTPUTS],
        min_length=1,
        max_length=3,
        description="Each at most once; left out: label and probability.",
    )

    DATATYPES: ClassVar[tuple[str, ...]] = ("BYTES",)

    @classmethod
    def data_of(cls, raw: bytes, *, datatype: str, field: str) -> list[Any]:  # noqa: ARG003  there is one
        """The elements of a tensor's bytes; ``datatype`` is one of DATATYPES. Raises ProtocolError."""
        return read_texts(raw, field=field, limit=MAXIMUM_TEXTS)

    def check_shape(self) -> None:
        """Raises ProtocolError unless it is the data's."""
        if self.inputs[0].shape != [len(self.texts)]:
            raise ProtocolError(f"is {self.inputs[0].shape}, data has {len(self.texts)}", field="inputs[0].shape")

    @property
    def texts(self) -> list[str]:
        return self.inputs[0].data

    @property
    def output_names(self) -> list[OutputName]:
        return [output.name for output in self.outputs]

    @property
    def binary_outputs(self) -> set[OutputName]:
        """Those that are wanted as bytes."""
        default = self.parameters.binary_data_output
        asked = {output.name: output.parameters.binary_data for output in self.outputs}
        return {name for name, binary in asked.items() if (default if binary is None else binary)}

    def canonical(self) -> dict[str, Any]:
        """Everything that can change an answer in JSON, with defaults filled.

        Left out is what can't: the id, and the words of the binary extension for "in JSON".
        """
        content = self.model_dump(exclude={"id"})
        del content["parameters"]["binary_data_output"]
        for output in content["outputs"]:
            del output["parameters"]["binary_data"]
        return content


def parse_infer(body: bytes, kind: type[InferRequest] = InferRequest) -> InferRequest:
    """A request that is JSON and is answered in JSON. Raises ProtocolError with the field's name."""
    request = parse_json(body, kind)
    if request.binary_outputs:
        raise ProtocolError("binary data don't fit into an answer in JSON", field="outputs")
    return request


def parse_json(body: bytes, kind: type[InferRequest] = InferRequest) -> InferRequest:
    """A request that is JSON, whatever it asks for. Raises ProtocolError with the field's name."""
    try:
        return _consistent(kind.model_validate_json(body))
    except ValidationError as error:
        raise invalid(error) from error


def request_of(content: object, kind: type[InferRequest] = InferRequest) -> InferRequest:
    """The same for what another encoding held. Raises ProtocolError with the field's name."""
    try:
        return _consistent(kind.model_validate(content))
    except ValidationError as error:
        raise invalid(error) from error


def _consistent(request: InferRequest) -> InferRequest:
    request.check_shape()
    names = request.output_names
    if len(set(names)) != len(names):
        raise ProtocolError("must name each output once, or be left out", field="outputs")
    return request


def infer_request(text: str, **parameters: Any) -> bytes:
    """The body of a request for one text."""
    asked = {"inputs": [{"name": INPUT_NAME, "shape": [1], "datatype": "BYTES", "data": [text]}]}
    return to_json({**asked, "parameters": parameters} if parameters else asked)


def output_tensors(
    request: InferRequest,
    *,
    labels: Sequence[str],
    probability: Sequence[float],
    probabilities: Sequence[Sequence[float]],
) -> list[Tensor]:
    """What the request asks for, in its order; ``probabilities`` (n, classes) may be empty when it isn't asked for."""
    count = len(labels)
    tensors = {
        "label": Tensor("label", "BYTES", [count], labels),
        "probability": Tensor("probability", "FP32", [count], probability),
    }
    if "probabilities" in request.output_names:
        flat = [value for row in probabilities for value in row]
        tensors["probabilities"] = Tensor("probabilities", "FP32", [count, len(probabilities[0])], flat)
    return [tensors[name] for name in request.output_names]


def envelope(*, model_name: str, model_version: str, request: InferRequest) -> dict[str, Any]:
    """An answer's fields beside its outputs."""
    answer = {"model_name": model_name, "model_version": model_version}
    return answer if request.id is None else {**answer, "id": request.id}


def json_tensor(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape, "data": tensor.data}


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
    tensors = output_tensors(request, labels=labels, probability=probability, probabilities=probabilities)
    answer = envelope(model_name=model_name, model_version=model_version, request=request)
    return to_json({**answer, "outputs": [json_tensor(tensor) for tensor in tensors]})


def server_metadata(*, version: str) -> dict[str, Any]:
    return {"name": "cycle-server", "version": version, "extensions": ["binary_tensor_data"]}


TEXT_INPUT: Mapping[str, Any] = {"name": INPUT_NAME, "datatype": "BYTES", "shape": [-1]}


def model_metadata(
    *, model_name: str, model_version: str, classes: int, input_tensor: Mapping[str, Any] = TEXT_INPUT
) -> Mapping[str, Any]:
    return {
        "name": model_name,
        "versions": [model_version],
        "platform": "cycleops_torch",
        "inputs": [input_tensor],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "probability", "datatype": "FP32", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]},
        ],
    }
