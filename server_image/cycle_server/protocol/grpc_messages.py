"""Between the messages of Open Inference Protocol over gRPC and what the server works with."""

from collections.abc import Mapping
from typing import Any

from cycle_server.protocol import v2
from cycle_server.protocol.errors import ProtocolError
from cycle_server.protocol.open_inference_pb2 import (
    InferParameter,
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataResponse,
)
from cycle_server.protocol.tensors import Tensor, decoded, read_texts


def read(message: ModelInferRequest) -> v2.InferRequest:
    """Raises ProtocolError with the field's name."""
    given, expected = len(message.raw_input_contents), len(message.inputs)
    if given not in (0, expected):
        raise ProtocolError(f"has {given} elements for {expected} inputs", field="raw_input_contents")
    content: dict[str, Any] = {
        "id": message.id or None,
        "parameters": _parameters(message.parameters),
        "inputs": [_input(message, index) for index in range(expected)],
    }
    if message.outputs:
        content["outputs"] = [
            {"name": output.name, "parameters": _parameters(output.parameters)} for output in message.outputs
        ]
    return v2.request_of(content)


def _input(message: ModelInferRequest, index: int) -> dict[str, Any]:
    tensor = message.inputs[index]
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "datatype": tensor.datatype,
        "parameters": _parameters(tensor.parameters),
        "data": _texts(message, index) if tensor.datatype == "BYTES" else [],
    }


def _texts(message: ModelInferRequest, index: int) -> list[str]:
    contents = f"inputs[{index}].contents"
    tensor = message.inputs[index]
    if message.raw_input_contents:
        if tensor.HasField("contents"):
            raise ProtocolError("must be left out with raw_input_contents", field=contents)
        raw = message.raw_input_contents[index]
        return read_texts(raw, field=f"raw_input_contents[{index}]", limit=v2.MAXIMUM_TEXTS)
    elements = tensor.contents.bytes_contents
    if not 0 < len(elements) <= v2.MAXIMUM_TEXTS:
        message_text = f"has {len(elements)} elements, must have 1 to {v2.MAXIMUM_TEXTS}"
        raise ProtocolError(message_text, field=f"{contents}.bytes_contents")
    return [decoded(element, field=f"{contents}.bytes_contents[{i}]") for i, element in enumerate(elements)]


def _parameters(parameters: Mapping[str, InferParameter]) -> dict[str, Any]:
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in parameters.items()}
    return {name: getattr(parameters[name], choice) for name, choice in chosen.items() if choice is not None}


def write(
    tensors: list[Tensor], *, model_name: str, model_version: str, request: v2.InferRequest, raw: bool
) -> ModelInferResponse:
    """``raw``: the outputs' data in ``raw_output_contents``, as the request's came in ``raw_input_contents``."""
    return ModelInferResponse(
        model_name=model_name,
        model_version=model_version,
        id=request.id or "",
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
