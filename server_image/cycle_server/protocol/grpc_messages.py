"""Between the messages of Open Inference Protocol over gRPC and what the server works with."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json, to_json

from cycle_server.protocol import v2
from cycle_server.protocol.errors import ProtocolError
from cycle_server.protocol.open_inference_pb2 import (
    InferParameter,
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataResponse,
)
from cycle_server.protocol.tensors import Tensor, decoded


def read(message: ModelInferRequest, kind: type[v2.InferRequest] = v2.InferRequest) -> v2.InferRequest:
    """Raises ProtocolError with the field's name."""
    given, expected = len(message.raw_input_contents), len(message.inputs)
    if given not in (0, expected):
        raise ProtocolError(f"has {given} elements for {expected} inputs", field="raw_input_contents")
    content: dict[str, Any] = {
        "id": message.id or None,
        "parameters": _parameters(message.parameters),
        "inputs": [_input(message, index, kind) for index in range(expected)],
    }
    if message.outputs:
        content["outputs"] = [
            {"name": output.name, "parameters": _parameters(output.parameters)} for output in message.outputs
        ]
    return v2.request_of(content, kind)


def as_json(request: v2.InferRequest) -> bytes:
    """A request that was read from a message, as HTTP has it; what it says about HTTP's binary answers is left out."""
    content = request.model_dump(exclude_unset=True, exclude_none=True)
    content.get("parameters", {}).pop("binary_data_output", None)
    for output in content.get("outputs", []):
        output["parameters"].pop("binary_data", None)
    return to_json(content, inf_nan_mode="constants")


def _input(message: ModelInferRequest, index: int, kind: type[v2.InferRequest]) -> dict[str, Any]:
    tensor = message.inputs[index]
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "datatype": tensor.datatype,
        "parameters": _parameters(tensor.parameters),
        "data": _data(message, index, kind) if tensor.datatype in kind.DATATYPES else [],
    }


def _data(message: ModelInferRequest, index: int, kind: type[v2.InferRequest]) -> list[Any]:
    contents = f"inputs[{index}].contents"
    tensor = message.inputs[index]
    if message.raw_input_contents:
        if tensor.HasField("contents"):
            raise ProtocolError("must be left out with raw_input_contents", field=contents)
        raw = message.raw_input_contents[index]
        return kind.data_of(raw, datatype=tensor.datatype, field=f"raw_input_contents[{index}]")
    if tensor.datatype == "UINT8":
        return list(tensor.contents.uint_contents)
    if tensor.datatype == "FP32":
        return list(tensor.contents.fp32_contents)
    elements = tensor.contents.bytes_contents
    if not 0 < len(elements) <= v2.MAXIMUM_TEXTS:
        message_text = f"has {len(elements)} elements, must have 1 to {v2.MAXIMUM_TEXTS}"
        raise ProtocolError(message_text, field=f"{contents}.bytes_contents")
    return [decoded(element, field=f"{contents}.bytes_contents[{i}]") for i, element in enumerate(elements)]


def _parameters(parameters: Mapping[str, InferParameter]) -> dict[str, Any]:
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in parameters.items()}
    return {name: getattr(parameters[name], choice) for name, choice in chosen.items() if choice is not None}


def write(
    tensors: Sequence[Tensor], *, model_name: str, model_version: str, request_id: str, raw: bool
) -> ModelInferResponse:
    """``raw``: the outputs' data in ``raw_output_contents``, as the request's came in ``raw_input_contents``."""
    return ModelInferResponse(
        model_name=model_name,
        model_version=model_version,
        id=request_id,
        outputs=[
            ModelInferResponse.InferOutputTensor(
                name=tensor.name,
                datatype=tensor.datatype,
                shape=tensor.shape,
                contents=None if raw else _contents(tensor),
            )
            for tensor in tensors
        ],
        raw_output_contents=[tensor.raw() for tensor in tensors] if raw else [],
    )


def of_json(body: bytes, *, raw: bool) -> ModelInferResponse:
    """An answer that was written for HTTP, whose floats have all their digits. ``raw``: see ``write``."""
    content = from_json(body)
    return write(
        [Tensor(one["name"], one["datatype"], one["shape"], one["data"]) for one in content["outputs"]],
        model_name=content["model_name"],
        model_version=content.get("model_version", ""),
        request_id=content.get("id", ""),
        raw=raw,
    )


def _contents(tensor: Tensor) -> InferTensorContents:
    if tensor.datatype == "BYTES":
        return InferTensorContents(bytes_contents=[str(element).encode() for element in tensor.data])
    return InferTensorContents(fp32_contents=[float(element) for element in tensor.data])


def metadata(content: Mapping[str, Any]) -> ModelMetadataResponse:
    """``content`` as v2.model_metadata makes it."""
    return ModelMetadataResponse(
        name=content["name"],
        versions=content["versions"],
        platform=content["platform"],
        inputs=[ModelMetadataResponse.TensorMetadata(**tensor) for tensor in content["inputs"]],
        outputs=[ModelMetadataResponse.TensorMetadata(**tensor) for tensor in content["outputs"]],
    )
