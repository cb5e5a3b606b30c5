"""The sidecar reads every task's requests without knowing the model."""

import json

import pytest

from cycle_server.protocol import v2, v2_image, v2_kinds, v2_translation
from cycle_server.protocol.errors import ProtocolError
from cycle_server.sidecar.key import Identity, cache_key

IDENTITY = Identity(model_digest="sha256:1", variant="v")


def body(*outputs: str, text: str = "a") -> bytes:
    named = {"outputs": [{"name": name} for name in outputs]} if outputs else {}
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
    return json.dumps({"inputs": [tensor], **named}).encode()


def test_a_request_that_names_the_translation_is_read_and_has_a_key_of_its_own() -> None:
    named = v2_kinds.parse_infer(body("translation"))
    assert isinstance(named, v2_translation.TranslationInferRequest) and named.texts == ["a"]
    others = [v2_kinds.parse_infer(body()), v2_kinds.parse_infer(body("label")), named]
    assert len({cache_key(request, path="/", tenant="", identity=IDENTITY) for request in others}) == 3
    again = v2_kinds.parse_infer(named.model_dump_json(exclude_unset=True).encode())
    assert again == named


def test_outputs_of_two_tasks_are_no_request() -> None:
    with pytest.raises(ProtocolError, match="outputs"):
        v2_kinds.parse_infer(body("translation", "label"))


def test_names_say_the_kind() -> None:
    assert v2_kinds.kind_of(inputs=["text"], outputs=["translation"]) is v2_translation.TranslationInferRequest
    assert v2_kinds.kind_of(inputs=["text"], outputs=["label"]) is v2.InferRequest
    assert v2_kinds.kind_of(inputs=["text"], outputs=[]) is v2.InferRequest
    assert v2_kinds.kind_of(inputs=["image"], outputs=[]) is v2_image.ImageInferRequest
