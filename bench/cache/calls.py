"""The fuzz's questions over gRPC: those that a message can hold, sent as one, and the answer as JSON would have it."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from bench.cache.questions import Ask
from cycle_server.protocol import v2
from cycle_server.protocol.grpc_status import CODES, SERVICE
from cycle_server.protocol.open_inference_pb2 import InferParameter, ModelInferRequest, ModelInferResponse
from cycle_wire.headers import CACHE_HEADER, TENANT_HEADER

LONGEST_BODY_BYTES = 1_000_000  # as a message it is about as long
_STATUSES = {code: status for status, code in CODES.items()}


class Seen(NamedTuple):
    """``content`` is an answer's JSON; of an error over gRPC its text."""

    outcome: str
    status: int
    content: Any


class Caller:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._ask = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=ModelInferResponse.FromString,
        )

    async def ask(self, ask: Ask, message: ModelInferRequest) -> Seen:
        said = {TENANT_HEADER: ask.tenant, **ask.headers} if ask.tenant else ask.headers
        call = self._ask(message, metadata=tuple((name.lower(), value) for name, value in said.items()))
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            status = _STATUSES.get(error.code().value[0], 500)
            return Seen("gRPC", status, f"{error.code().name} {error.details() or ''}")
        outcome = dict(await call.initial_metadata())[CACHE_HEADER.lower()]
        return Seen(f"gRPC {outcome}", 200, _as_json(answer))


def _as_json(answer: ModelInferResponse) -> dict[str, Any]:
    outputs = [
        {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.shape),
            "data": [element.decode() for element in output.contents.bytes_contents]
            or _elements(answer.raw_output_contents[place]),
        }
        for place, output in enumerate(answer.outputs)
    ]
    content = {"model_name": answer.model_name, "outputs": outputs}
    return {**content, "id": answer.id} if answer.id else content


def _elements(raw: bytes) -> list[str]:
    found = []
    while raw:
        length = int.from_bytes(raw[:4], "little")
        found.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    return found


def message_of(ask: Ask, *, raw: bool) -> ModelInferRequest | None:
    """None for what is no request, or has what no message can hold."""
    if len(ask.body) > LONGEST_BODY_BYTES:
        return None
    try:
        v2.parse_infer(ask.body)
        request = json.loads(ask.body)
        tensor = request["inputs"][0]
        parameters, of_tensor = _parameters(request), _parameters(tensor)
        outputs = [
            ModelInferRequest.InferRequestedOutputTensor(name=output["name"], parameters=_parameters(output))
            for output in request.get("outputs", ())
        ]
    except (v2.ProtocolError, ValueError, TypeError):
        return None
    data = [text.encode() for text in tensor["data"]]
    sent = ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(data)], parameters=of_tensor)
    if not raw:
        sent.contents.bytes_contents.extend(data)
    _, _, _, name, *versions = ask.path.split("/")
    return ModelInferRequest(
        model_name=name,
        model_version=versions[1] if versions[0] == "versions" else "",
        id=request.get("id") or "",
        parameters=parameters,
        inputs=[sent],
        outputs=outputs,
        raw_input_contents=[b"".join(len(part).to_bytes(4, "little") + part for part in data)] if raw else [],
    )


_KINDS: dict[type, Callable[[Any], InferParameter]] = {
    bool: lambda value: InferParameter(bool_param=value),
    int: lambda value: InferParameter(int64_param=value),
    float: lambda value: InferParameter(double_param=value),
    str: lambda value: InferParameter(string_param=value),
}


def _parameters(part: dict[str, Any]) -> dict[str, InferParameter]:
    """Raises TypeError or ValueError for a value that gRPC has no kind for."""
    found = {}
    for name, value in part.get("parameters", {}).items():
        if type(value) not in _KINDS:
            raise TypeError(f"{name} is {value!r}")
        found[name] = _KINDS[type(value)](value)
    return found
