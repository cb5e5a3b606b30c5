"""/classify, embeddings and the document that describes all endpoints."""

import base64
import json
import struct
from html.parser import HTMLParser
from typing import Any

import pytest

from cycle_server.protocol import docs_page, openai, openapi, tasks, v2
from cycle_server.protocol.errors import ProtocolError
from cycle_wire.parts import Task

BAD_CLASSIFY: list[tuple[Any, str]] = [
    ({}, "text"),
    ({"text": "a", "texts": ["b"]}, "text"),
    ({"text": None}, "text"),
    ({"text": 7}, "text"),
    ({"texts": []}, "texts"),
    ({"texts": "a"}, "texts"),
    ({"texts": ["a", 1]}, "texts[1]"),
    ({"texts": ["a"] * (v2.MAXIMUM_TEXTS + 1)}, "texts"),
    ({"text": "a", "top": 0}, "top"),
    ({"text": "a", "top": "3"}, "top"),
    ({"text": "a", "top": 2.5}, "top"),
    ({"text": "a", "top": True}, "top"),
    ({"text": "a", "truncate": "no"}, "truncate"),
    ({"text": "a", "txt": "b"}, "txt"),
    ([], "body"),
]


@pytest.mark.parametrize(("content", "field"), BAD_CLASSIFY, ids=lambda part: str(part)[:40])
def test_a_wrong_classify_request_names_the_field(content: Any, field: str) -> None:
    with pytest.raises(ProtocolError) as error:
        tasks.parse_classify(json.dumps(content).encode())
    assert error.value.field == field


def test_classify_takes_one_text_or_several_and_ranks_labels() -> None:
    assert tasks.parse_classify(b'{"text": "", "top": 2.0}').all_texts == [""]
    assert tasks.parse_classify(b'{"texts": ["a", "b"]}').all_texts == ["a", "b"]
    answer = tasks.classify_response(
        model="m", version="1", labels=["x", "y", "z"], probabilities=[[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]], top=2
    )
    first, second = json.loads(answer)["results"]
    assert first == {
        "label": "y",
        "probability": 0.5,
        "scores": [{"label": "y", "probability": 0.5}, {"label": "z", "probability": 0.3}],
    }
    assert [score["label"] for score in second["scores"]] == ["x", "y"]  # equal ones in the model's order


BAD_EMBEDDINGS: list[tuple[Any, str, int]] = [
    ({"input": "a"}, "model", 400),
    ({"model": "other", "input": "a"}, "model", 404),
    ({"model": "m"}, "input", 400),
    ({"model": "m", "input": []}, "input", 400),
    ({"model": "m", "input": [1, 2]}, "input[0]", 400),
    ({"model": "m", "input": "a", "encoding_format": "int8"}, "encoding_format", 400),
    ({"model": "m", "input": "a", "dimensions": 8}, "dimensions", 400),
]


@pytest.mark.parametrize(("content", "field", "status"), BAD_EMBEDDINGS, ids=lambda part: str(part)[:40])
def test_a_wrong_embeddings_request_names_the_field(content: Any, field: str, status: int) -> None:
    with pytest.raises(ProtocolError) as error:
        openai.parse_embeddings(json.dumps(content).encode(), model_name="m")
    assert (error.value.field, error.value.status) == (field, status)
    shown = json.loads(openai.error_response(str(error.value), field=error.value.field, status=error.value.status))
    assert shown["error"]["param"] == field
    assert shown["error"]["type"] == "invalid_request_error"


def test_embeddings_are_floats_or_base64_of_them() -> None:
    vectors = [[0.5, -1.0], [0.25, 2.0]]
    plain = json.loads(openai.embeddings_response(vectors, model_name="m", tokens=9, encoding_format="float"))
    assert [entry["embedding"] for entry in plain["data"]] == vectors
    assert [entry["index"] for entry in plain["data"]] == [0, 1]
    assert plain["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    packed = json.loads(openai.embeddings_response(vectors, model_name="m", tokens=9, encoding_format="base64"))
    assert list(struct.unpack("<2f", base64.b64decode(packed["data"][1]["embedding"]))) == vectors[1]


def document(task: Task = Task.TEXT_CLASSIFICATION) -> dict[str, Any]:
    return openapi.document(task=task, model_name="m", model_version="1", server_version="0", grpc_port=9000)


def test_every_reference_in_the_document_leads_somewhere() -> None:
    schemas = document()["components"]["schemas"]
    named = {part.split('"')[0] for part in json.dumps(document()).split("#/components/schemas/")[1:]}
    assert named
    assert named <= set(schemas)
    assert schemas["ClassifyRequest"]["properties"]["texts"]["maxItems"] == v2.MAXIMUM_TEXTS


def test_bounds_of_whole_numbers_are_in_the_document_by_their_names_there() -> None:
    schemas = document(Task.LANGUAGE_MODELING)["components"]["schemas"]
    one = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1}, {"type": "null"}]}
    assert schemas["ChatRequest"]["properties"]["n"].items() >= one.items()
    assert schemas["GenerateRequest"]["properties"]["max_tokens"]["anyOf"][0]["minimum"] == 1
    assert {"ge", "le"}.isdisjoint(json.dumps(schemas).split('"'))


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.links += [value for name in ("href", "src") if (value := values.get(name))]
        if identity := values.get("id"):
            self.ids.add(identity)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_from_anywhere_and_shows_every_endpoint() -> None:
    page = _Page()
    page.feed(docs_page.render(document()))
    assert "script" not in page.tags
    outside = [link for link in page.links if link != "openapi.json" and link.removeprefix("#") not in page.ids]
    assert outside == []
    for path in document()["paths"]:
        assert path in page.text
    assert "curl $URL/v2/models/m/infer" in page.text
