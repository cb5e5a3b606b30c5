"""Binary tensors over HTTP and messages over gRPC: the same requests as JSON, and their own ways to be wrong."""

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cycle_server.protocol import binary, grpc_messages, v2
from cycle_server.protocol.open_inference_pb2 import InferParameter, InferTensorContents, ModelInferRequest
from cycle_server.protocol.tensors import Tensor, read_texts

TEXTS = st.lists(st.text(), min_size=1, max_size=5)
TENSORS = [Tensor("label", "BYTES", [2], ["x", "é"]), Tensor("probability", "FP32", [2], [0.75, 0.5])]
Input = ModelInferRequest.InferInputTensor


def raw(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def described(count: int, **fields: Any) -> dict[str, Any]:
    return {"name": "text", "shape": [count], "datatype": "BYTES", **fields}


def body(content: dict[str, Any], tail: bytes = b"") -> tuple[bytes, str]:
    head = json.dumps(content).encode()
    return head + tail, str(len(head))


def message(*texts: bytes, as_raw: bool, **fields: Any) -> ModelInferRequest:
    contents = None if as_raw else InferTensorContents(bytes_contents=texts)
    tensor = Input(name="text", datatype="BYTES", shape=[len(texts)], contents=contents)
    return ModelInferRequest(
        model_name="m", inputs=[tensor], raw_input_contents=[raw(*texts)] if as_raw else [], **fields
    )


@given(TEXTS)
def test_every_encoding_holds_the_same_texts(texts: list[str]) -> None:
    data = [text.encode() for text in texts]
    tensor = described(len(texts), parameters={"binary_data_size": len(raw(*data))})
    content, length = body({"inputs": [tensor]}, raw(*data))
    plain = v2.parse_json(json.dumps({"inputs": [described(len(texts), data=texts)]}).encode())
    assert binary.read(content, header_length=length) == plain
    assert grpc_messages.read(message(*data, as_raw=True)) == plain
    assert grpc_messages.read(message(*data, as_raw=False)) == plain
    assert read_texts(Tensor("text", "BYTES", [len(texts)], texts).raw(), field="", limit=5) == texts


ONE = raw(b"a")
SIZED = {"binary_data_size": len(ONE)}
BAD_BINARY: list[tuple[dict[str, Any], bytes, str | None, str]] = [
    ({"inputs": [described(1, parameters=SIZED)]}, ONE, "0", v2.TENSOR_HEADER),
    ({"inputs": [described(1, parameters=SIZED)]}, ONE, "9999", v2.TENSOR_HEADER),
    ({"inputs": [described(1, parameters=SIZED)]}, ONE, "-3", v2.TENSOR_HEADER),
    ({"inputs": [described(1, parameters=SIZED)]}, ONE, "²", v2.TENSOR_HEADER),
    ({"inputs": [described(1, parameters=SIZED)]}, ONE, "5", "body"),
    ({"inputs": [described(1, parameters=SIZED)]}, ONE + b"!", None, "body"),
    ({"inputs": [described(1, parameters=SIZED)]}, ONE[:-1], None, "inputs[0].parameters.binary_data_size"),
    (
        {"inputs": [described(1, parameters={"binary_data_size": True})]},
        b"",
        None,
        "inputs[0].parameters.binary_data_size",
    ),
    ({"inputs": [described(1, parameters={"binary_data_size": 3})]}, b"abc", None, "inputs[0].data"),
    ({"inputs": [described(1, parameters=SIZED, data=["a"])]}, ONE, None, "inputs[0].data"),
    ({"inputs": [described(2, parameters=SIZED)]}, ONE, None, "inputs[0].shape"),
    ({"inputs": [described(1, parameters={"binary_data_size": 5})]}, raw(b"\xff"), None, "inputs[0].data[0]"),
    ({"inputs": [{**described(1, parameters=SIZED), "datatype": "FP32"}]}, ONE, None, "inputs[0].datatype"),
    ({"inputs": ["text"]}, b"", None, "inputs[0]"),
    ({"inputs": 7}, b"", None, "inputs"),
]


@pytest.mark.parametrize(("content", "tail", "length", "field"), BAD_BINARY, ids=lambda part: str(part)[:40])
def test_a_wrong_binary_request_names_the_field(
    content: dict[str, Any], tail: bytes, length: str | None, field: str
) -> None:
    encoded, right = body(content, tail)
    with pytest.raises(v2.ProtocolError) as error:
        binary.read(encoded, header_length=right if length is None else length)
    assert error.value.field == field


def test_elements_are_bounded() -> None:
    many = raw(*[b""] * (v2.MAXIMUM_TEXTS + 1))
    tensor = described(v2.MAXIMUM_TEXTS + 1, parameters={"binary_data_size": len(many)})
    content, length = body({"inputs": [tensor]}, many)
    with pytest.raises(v2.ProtocolError, match="more than 256 elements"):
        binary.read(content, header_length=length)
    with pytest.raises(v2.ProtocolError, match="more than 256 elements"):
        grpc_messages.read(message(*[b""] * (v2.MAXIMUM_TEXTS + 1), as_raw=True))
    with pytest.raises(v2.ProtocolError, match="must have 1 to 256"):
        grpc_messages.read(message(*[b""] * (v2.MAXIMUM_TEXTS + 1), as_raw=False))


@given(st.binary(max_size=40))
def test_any_bytes_are_texts_or_a_protocol_error(data: bytes) -> None:
    try:
        texts = read_texts(data, field="f", limit=8)
    except v2.ProtocolError as error:
        assert error.field.startswith("f")
    else:
        assert Tensor("text", "BYTES", [len(texts)], texts).raw() == data


def asking(**fields: Any) -> v2.InferRequest:
    return v2.parse_json(json.dumps({"inputs": [described(2, data=["a", "b"])], **fields}).encode())


def test_only_what_is_asked_for_is_binary() -> None:
    request = asking(id="7", outputs=[{"name": "label", "parameters": {"binary_data": True}}, {"name": "probability"}])
    content, length = binary.write(TENSORS, model_name="m", model_version="1", request=request)
    assert json.loads(content[:length]) == {
        "model_name": "m",
        "model_version": "1",
        "id": "7",
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 11}},
            {"name": "probability", "datatype": "FP32", "shape": [2], "data": [0.75, 0.5]},
        ],
    }
    assert content[length:] == raw(b"x", "é".encode())


def test_all_outputs_are_binary_when_the_request_says_so_and_json_by_default() -> None:
    content, length = binary.write(
        TENSORS, model_name="m", model_version="1", request=asking(parameters={"binary_data_output": True})
    )
    assert content[length:] == raw(b"x", "é".encode()) + struct.pack("<2f", 0.75, 0.5)
    content, length = binary.write(TENSORS, model_name="m", model_version="1", request=asking())
    assert length == len(content)


def test_what_is_answered_in_bytes_is_no_plain_request() -> None:
    """The cache sidecar keeps answers in JSON only."""
    wanted = json.dumps({"inputs": [described(1, data=["a"])], "parameters": {"binary_data_output": True}}).encode()
    with pytest.raises(v2.ProtocolError) as error:
        v2.parse_infer(wanted)
    assert error.value.field == "outputs"
    with pytest.raises(v2.ProtocolError) as error:
        v2.parse_infer(wanted.replace(b"true", b'"yes"'))
    assert error.value.field == "parameters.binary_data_output"


BAD_MESSAGES: list[tuple[ModelInferRequest, str]] = [
    (ModelInferRequest(model_name="m"), "inputs"),
    (ModelInferRequest(model_name="m", raw_input_contents=[b""]), "raw_input_contents"),
    (message(b"a", as_raw=True, outputs=[{"name": "score"}]), "outputs[0].name"),
    (message(b"\xff", as_raw=True), "raw_input_contents[0][0]"),
    (message(b"\xff", as_raw=False), "inputs[0].contents.bytes_contents[0]"),
    (message(as_raw=False), "inputs[0].contents.bytes_contents"),
    (
        ModelInferRequest(
            inputs=[Input(name="text", datatype="BYTES", contents=InferTensorContents(bytes_contents=[b"a"]))],
            raw_input_contents=[raw(b"a")],
        ),
        "inputs[0].contents",
    ),
    (ModelInferRequest(inputs=[Input(name="text", datatype="FP32", shape=[1])]), "inputs[0].datatype"),
    (
        ModelInferRequest(inputs=[Input(name="text", datatype="BYTES", shape=[2])], raw_input_contents=[raw(b"a")]),
        "inputs[0].shape",
    ),
    (message(b"a", as_raw=True, id="x" * 257), "id"),
]


@pytest.mark.parametrize(("wrong", "field"), BAD_MESSAGES, ids=lambda part: str(part)[:40])
def test_a_wrong_message_names_the_field(wrong: ModelInferRequest, field: str) -> None:
    with pytest.raises(v2.ProtocolError) as error:
        grpc_messages.read(wrong)
    assert error.value.field == field


def test_a_message_is_answered_as_it_came() -> None:
    request = grpc_messages.read(
        message(b"a", b"b", as_raw=True, id="7", parameters={"x": InferParameter(int64_param=1)})
    )
    assert (request.id, request.parameters.model_extra) == ("7", {"x": 1})
    in_raw = grpc_messages.write(TENSORS, model_name="m", model_version="1", request_id="7", raw=True)
    assert list(in_raw.raw_output_contents) == [tensor.raw() for tensor in TENSORS]
    assert not any(output.HasField("contents") for output in in_raw.outputs)
    assert (in_raw.id, [list(output.shape) for output in in_raw.outputs]) == ("7", [[2], [2]])
    plain = grpc_messages.write(TENSORS, model_name="m", model_version="1", request_id="7", raw=False)
    assert list(plain.outputs[0].contents.bytes_contents) == [b"x", "é".encode()]
    assert list(plain.outputs[1].contents.fp32_contents) == [0.75, 0.5]
    assert not plain.raw_output_contents
