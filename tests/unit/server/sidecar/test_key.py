"""The cache key: equal for requests that must get equal answers, different for all others."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cycle_server.protocol import v2
from cycle_server.sidecar.key import Identity, cache_key, raw_digest, takes_an_id, with_id, without_id

IDENTITY = Identity(model_digest="sha256:" + "a" * 64, variant="int8")


def request(*texts: str, **fields: Any) -> dict[str, Any]:
    return {
        "inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}],
        **fields,
    }


def key_of(body: dict[str, Any] | str, **changes: Any) -> bytes:
    parsed = v2.parse_infer((body if isinstance(body, str) else json.dumps(body)).encode())
    values = {"path": "/v2/models/m/infer", "tenant": "", "identity": IDENTITY} | changes
    return cache_key(parsed, **values)


def test_order_of_fields_spaces_escapes_and_written_defaults_do_not_matter() -> None:
    plain = key_of(request("é b"))
    reordered = '{ "inputs" : [ {"data":["\\u00e9 b"],"datatype":"BYTES","shape":[1], "name":"text"} ] }'
    assert key_of(reordered) == plain
    written = request("é b", outputs=[{"name": "label"}, {"name": "probability"}], parameters={})
    assert key_of(written) == plain
    in_json = {"parameters": {"binary_data": False}}  # as tritonclient says it
    outputs = [{"name": "label", **in_json}, {"name": "probability", **in_json}]
    assert key_of(request("é b", outputs=outputs, parameters={"binary_data_output": False})) == plain
    assert key_of(request("é b", outputs=outputs, parameters={"binary_data_output": True})) == plain


def test_the_id_does_not_matter() -> None:
    assert key_of(request("a", id="1")) == key_of(request("a", id="2")) == key_of(request("a"))


def test_everything_else_matters() -> None:
    keys = [
        key_of(request("a")),
        key_of(request("a ")),
        key_of(request("A")),
        key_of(request("a", "a")),
        key_of(request("a", outputs=[{"name": "label"}])),
        key_of(request("a", outputs=[{"name": "probability"}, {"name": "label"}])),
        key_of(request("a", parameters={"x": 1})),
        key_of(request("a"), path="/v2/models/n/infer"),
        key_of(request("a"), path="/v2/models/m/versions/1/infer"),
        key_of(request("a"), tenant="t"),
        key_of(request("a"), identity=Identity(model_digest="sha256:" + "b" * 64, variant="int8")),
        key_of(request("a"), identity=Identity(model_digest=IDENTITY.model_digest, variant="fp32")),
    ]
    assert len(set(keys)) == len(keys)


@given(st.lists(st.text(max_size=8), min_size=1, max_size=4), st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_keys_are_equal_exactly_when_the_texts_are(one: list[str], other: list[str]) -> None:
    assert (key_of(request(*one)) == key_of(request(*other))) == (one == other)


@given(st.text(max_size=20))
def test_each_answer_gets_its_own_id(request_id: str) -> None:
    body = b'{"model_name":"m","outputs":[]}'
    assert json.loads(with_id(body, request_id)) == {"id": request_id, "model_name": "m", "outputs": []}
    assert with_id(body, None) == body


@pytest.mark.parametrize("body", [b"{}", b"[1]", b' {"a":1}', b'{ "a":1}', b'"text"', b"", b'{"id":"x","outputs":[]}'])
def test_what_an_id_does_not_fit_into_is_known(body: bytes) -> None:
    assert takes_an_id(b'{"outputs":[]}')
    assert not takes_an_id(body)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_has_not_have_no_key(number: str) -> None:
    body = json.dumps(request("a", parameters={"x": 1})).replace(": 1}", f": {number}}}")
    with pytest.raises(ValueError, match="JSON"):
        key_of(body)


def test_digests_of_raw_requests_know_where_each_part_ends() -> None:
    parts = [("/a", "bc", b"d"), ("/ab", "c", b"d"), ("/a", "b", b"cd"), ("/a", "", b"bcd"), ("/a", "é", b"bc")]
    digests = {raw_digest(path=path, tenant=tenant, body=body) for path, tenant, body in parts}
    assert len(digests) == len(parts)


def test_the_server_sees_no_id() -> None:
    sent = json.loads(without_id(v2.parse_infer(json.dumps(request("a", id="1")).encode())))
    assert "id" not in sent
    assert sent["inputs"][0]["data"] == ["a"]
