"""The binary tensor extension of the Open Inference Protocol over HTTP, which tritonclient speaks by default.

A body is JSON and then the bytes of the tensors whose parameters say ``binary_data_size``, in their order; the header
Inference-Header-Content-Length is the length of the JSON. An output is bytes when the request asks for it.
"""

from typing import Any

from pydantic_core import from_json, to_json

from cycle_server.protocol import v2
from cycle_server.protocol.errors import ProtocolError
from cycle_server.protocol.tensors import Tensor

SIZE = "binary_data_size"


def read(body: bytes, *, header_length: str | None, kind: type[v2.InferRequest] = v2.InferRequest) -> v2.InferRequest:
    """``header_length``: the header's value, None without it. Raises ProtocolError with the field's name."""
    if header_length is None:
        return v2.parse_json(body, kind)
    length = int(header_length) if header_length.isascii() and header_length.isdigit() else -1
    if not 0 < length <= len(body):
        raise ProtocolError(f"must be the length of the JSON, 1 to {len(body)} bytes here", field=v2.TENSOR_HEADER)
    try:
        content = from_json(body[:length])
    except ValueError as error:
        raise ProtocolError(f"Invalid JSON: {error}", field="body") from error
    rest = memoryview(body)[length:]
    inputs = content.get("inputs") if isinstance(content, dict) else None
    for index, tensor in enumerate(inputs if isinstance(inputs, list) else []):
        rest = rest[_fill(tensor, rest, field=f"inputs[{index}]", kind=kind) :]
    if rest:
        raise ProtocolError(f"{len(rest)} bytes are left behind the last tensor", field="body")
    return v2.request_of(content, kind)


def _fill(tensor: Any, rest: memoryview, *, field: str, kind: type[v2.InferRequest]) -> int:
    """Puts the data of one input into it; the number of bytes that were its own."""
    parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
    if not isinstance(parameters, dict) or SIZE not in parameters:
        return 0
    size = parameters.pop(SIZE)
    if type(size) is not int or not 0 <= size <= len(rest):
        raise ProtocolError(f"must be 0 to the {len(rest)} bytes that are left", field=f"{field}.parameters.{SIZE}")
    if "data" in tensor:
        raise ProtocolError("is given twice: in the JSON and behind it", field=f"{field}.data")
    datatype = tensor.get("datatype")
    known = datatype in kind.DATATYPES  # if not, that is what will be said to be wrong
    tensor["data"] = kind.data_of(bytes(rest[:size]), datatype=datatype, field=f"{field}.data") if known else []
    return size


def write(tensors: list[Tensor], *, model_name: str, model_version: str, request: v2.InferRequest) -> tuple[bytes, int]:
    """The body, and the length of its JSON (less than the body's only when there are bytes behind it)."""
    binary = request.binary_outputs
    outputs, tail = [], []
    for tensor in tensors:
        described = v2.json_tensor(tensor)
        if tensor.name in binary:
            raw = tensor.raw()
            del described["data"]
            described["parameters"] = {SIZE: len(raw)}
            tail.append(raw)
        outputs.append(described)
    answer = v2.envelope(model_name=model_name, model_version=model_version, request=request)
    head = to_json({**answer, "outputs": outputs})
    return b"".join([head, *tail]), len(head)
