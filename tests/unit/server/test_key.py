"""The cache key: equal for requests that must get equal answers, different for all others."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cycle_server.protocol import v2
from cycle_server.sidecar.cache import AnswerCache
from cycle_server.sidecar.key import Identity, cache_key, with_id, without_id

IDENTITY = Identity(model_digest="sha256:" + "a" * 64, variant="int8")


def request(*texts: str, **fields: Any) -> dict[str, Any]:
    return {
        "inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}],
        **fields,
    }


def key_of(body: dict[str, Any] | str, **changes: Any) -> bytes:
    parsed = v2.parse_infer((body if isinstance(body, str) else json.dumps(body)).encode())
    values = {"model": "m", "version": None, "tenant": "", "identity": IDENTITY} | changes
    return cache_key(parsed, **values)


def test_order_of_fields_spaces_escapes_and_written_defaults_do_not_matter() -> None:
    plain = key_of(request("é b"))
    reordered = '{ "inputs" : [ {"data":["\\u00e9 b"],"datatype":"BYTES","shape":[1], "name":"text"} ] }'
    assert key_of(reordered) == plain
    written = request("é b", outputs=[{"name": "label"}, {"name": "probability"}], parameters={})
    assert key_of(written) == plain


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
        key_of(request("a"), model="n"),
        key_of(request("a"), version="1"),
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


def test_the_server_sees_no_id() -> None:
    sent = json.loads(without_id(v2.parse_infer(json.dumps(request("a", id="1")).encode())))
    assert "id" not in sent
    assert sent["inputs"][0]["data"] == ["a"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def cache(size_bytes: int, clock: Clock, share: float = 1.0) -> AnswerCache:
    def uniform(low: float, high: float) -> float:
        return low + share * (high - low)

    return AnswerCache(size_bytes=size_bytes, ttl_seconds=10, clock=clock, uniform=uniform)


def test_answers_end_after_their_time_with_jitter() -> None:
    clock = Clock()
    late, early = cache(10_000, clock), cache(10_000, clock, share=0.0)
    late.put(b"k", b"v")
    early.put(b"k", b"v")
    clock.now = 8.9
    assert late.get(b"k") == early.get(b"k") == b"v"
    clock.now = 9.1
    assert late.get(b"k") == b"v"
    assert early.get(b"k") is None
    clock.now = 10.1
    assert late.get(b"k") is None


def test_the_least_recently_used_goes_first_and_the_size_is_bounded() -> None:
    answers = cache(3 * 500, Clock())
    for name in (b"a", b"b", b"c"):
        answers.put(name, b"x" * 100)
    assert answers.get(b"a") is not None
    answers.put(b"d", b"x" * 100)
    assert answers.get(b"b") is None
    assert answers.get(b"a") is not None
    assert answers.size_bytes <= 1500
    answers.put(b"large", b"x" * 5000)
    assert answers.get(b"large") is None
    assert answers.entries == 3
