"""Open Inference Protocol v2: what is read, what is refused and with which field's name, what is answered."""

import copy
import json
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cycle_server.protocol import v2
from cycle_server.protocol.timing import format_timing, parse_timing

GOOD: dict[str, Any] = {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]}]}


class Missing(Enum):
    """The key is taken out."""

    MISSING = "missing"


MISSING = Missing.MISSING


def changed(path: list[str | int], value: Any) -> bytes:
    request = copy.deepcopy(GOOD)
    place: Any = request
    for part in path[:-1]:
        place = place[part]
    if value is MISSING:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(request).encode()


BAD: list[tuple[list[str | int], Any, str]] = [
    (["inputs"], MISSING, "inputs"),
    (["inputs"], [], "inputs"),
    (["inputs"], GOOD["inputs"] * 2, "inputs"),
    (["inputs"], "text", "inputs"),
    (["inputs", 0, "name"], "texts", "inputs[0].name"),
    (["inputs", 0, "name"], MISSING, "inputs[0].name"),
    (["inputs", 0, "datatype"], "FP32", "inputs[0].datatype"),
    (["inputs", 0, "shape"], [3], "inputs[0].shape"),
    (["inputs", 0, "shape"], [2, 1], "inputs[0].shape"),
    (["inputs", 0, "shape"], [], "inputs[0].shape"),
    (["inputs", 0, "data"], [1, "b"], "inputs[0].data[0]"),
    (["inputs", 0, "data"], [None, "b"], "inputs[0].data[0]"),
    (["inputs", 0, "data"], [], "inputs[0].data"),
    (["inputs", 0, "data"], ["x"] * (v2.MAXIMUM_TEXTS + 1), "inputs[0].data"),
    (["inputs", 0, "dtype"], "BYTES", "inputs[0].dtype"),
    (["outputs"], [], "outputs"),
    (["outputs"], [{"name": "label"}, {"name": "label"}], "outputs"),
    (["outputs"], [{"name": "score"}], "outputs[0].name"),
    (["parameters"], 3, "parameters"),
    (["id"], 7, "id"),
    (["extra"], 1, "extra"),
]


@pytest.mark.parametrize(("path", "value", "field"), BAD, ids=lambda part: str(part)[:40])
def test_bad_requests_name_the_field(path: list[str | int], value: Any, field: str) -> None:
    with pytest.raises(v2.ProtocolError) as error:
        v2.parse_infer(changed(path, value))
    assert error.value.field == field
    assert error.value.status == 400
    assert json.loads(error.value.body())["field"] == field


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"inputs": [{"data": ["\\ud800"]}]}'])
def test_what_is_no_request_at_all(body: bytes) -> None:
    with pytest.raises(v2.ProtocolError) as error:
        v2.parse_infer(body)
    assert error.value.field == "body"


@given(st.lists(st.text(), min_size=1, max_size=5), st.none() | st.text(max_size=20))
def test_texts_and_id_are_read_as_they_are(texts: list[str], request_id: str | None) -> None:
    body = {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}]}
    encoded = json.dumps(body | ({"id": request_id} if request_id is not None else {})).encode()
    request = v2.parse_infer(encoded)
    assert request.texts == texts
    assert request.id == request_id
    assert request.output_names == ["label", "probability"]


def test_the_answer_has_the_outputs_asked_for() -> None:
    request = v2.parse_infer(
        json.dumps(GOOD | {"id": "7", "outputs": [{"name": "probabilities"}, {"name": "label"}]}).encode()
    )
    answer = v2.infer_response(
        model_name="m",
        model_version="1",
        request=request,
        labels=["x", "y"],
        probability=[0.75, 0.5],
        probabilities=[[0.75, 0.25], [0.5, 0.5]],
    )
    assert json.loads(answer) == {
        "model_name": "m",
        "model_version": "1",
        "id": "7",
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [2, 2], "data": [0.75, 0.25, 0.5, 0.5]},
            {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["x", "y"]},
        ],
    }


def test_server_timing_round_trips_and_survives_others_entries() -> None:
    header = format_timing({"queue": 0.0012345, "compute": 0.01})
    assert header == "queue;dur=1.234, compute;dur=10.000"
    parsed = parse_timing(header + ', cdn;desc="x";dur="2.5", miss, odd;dur=abc')
    assert parsed == pytest.approx({"queue": 0.001234, "compute": 0.01, "cdn": 0.0025})
