"""The endpoints for people: /classify, /docs, /openapi.json, and errors outside any endpoint."""

import gzip
import re
from collections.abc import Iterator

import pytest

from cycle_server.process import peak_resident_bytes
from cycle_wire.parts import Variant
from tests.images.server.serving import Running, serving
from tests.images.server.variants import LABELS, write_variant

TEXTS = ["the cat runs", "a small dog", "trees running"]
TOO_LONG = "cat " * 100
BOMB_BYTES = 100_000_000  # a hundredth of it or less when compressed


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("variants") / "v"
    write_variant(folder, variant=Variant(name="v"))
    with serving(folder, maximum_batch_size=4, budget_milliseconds=10_000) as running:
        yield running


def test_classify_answers_as_infer_does(server: Running) -> None:
    asked = server.infer(*TEXTS, outputs=[{"name": "label"}, {"name": "probability"}]).body["outputs"]
    reply = server.call("/classify", {"texts": TEXTS, "top": len(LABELS)})
    assert (reply.status, reply.body["model"]) == (200, "m")
    assert [result["label"] for result in reply.body["results"]] == asked[0]["data"]
    assert [result["probability"] for result in reply.body["results"]] == pytest.approx(asked[1]["data"], abs=1e-5)
    for result in reply.body["results"]:
        assert {score["label"] for score in result["scores"]} == set(LABELS)
        assert sum(score["probability"] for score in result["scores"]) == pytest.approx(1, abs=1e-5)
    assert "compute;dur=" in reply.headers["Server-Timing"]
    one = server.call("/classify", {"text": TEXTS[0]}).body["results"]
    assert [result["label"] for result in one] == asked[0]["data"][:1]
    assert len(one[0]["scores"]) == 3


def test_a_text_that_is_too_long_is_cut_or_refused_as_asked(server: Running) -> None:
    assert server.call("/classify", {"texts": ["a", TOO_LONG]}).status == 200
    refused = server.call("/classify", {"texts": ["a", TOO_LONG], "truncate": False})
    assert (refused.status, refused.body["field"]) == (400, "texts[1]")
    assert "48 tokens" in refused.body["error"]
    assert server.call("/classify", {"text": TOO_LONG, "truncate": False}).body["field"] == "text"
    exactly_full = " ".join(["cat"] * 46)  # with [CLS] and [SEP] 48
    assert server.call("/classify", {"text": exactly_full, "truncate": False}).status == 200


def test_errors_outside_the_endpoints_are_json_too(server: Running) -> None:
    assert server.call("/nowhere").body == {"error": "Not Found"}
    wrong_method = server.call("/classify")
    assert (wrong_method.status, wrong_method.headers["Allow"]) == (405, "POST")
    too_large = server.call("/classify", b" " * 1_100_000)
    assert (too_large.status, too_large.body["field"]) == (413, "body")
    for_openai = server.call("/v1/embeddings", b"{")
    assert (for_openai.status, for_openai.body["error"]["param"]) == (400, "body")


def test_a_body_that_unpacks_to_far_more_is_refused_before_it_fills_memory(server: Running) -> None:
    body = gzip.compress(b'{"text": "' + b"x" * BOMB_BYTES + b'"}')
    before = peak_resident_bytes(server.process.pid)
    reply = server.call("/classify", body, headers={"Content-Encoding": "gzip"})
    assert (reply.status, reply.body["field"]) == (413, "body")
    assert peak_resident_bytes(server.process.pid) - before < BOMB_BYTES / 2
    small = gzip.compress(b'{"text": "the cat runs"}')
    assert server.call("/classify", small, headers={"Content-Encoding": "gzip"}).status == 200


def test_the_endpoints_are_described(server: Running) -> None:
    document = server.call("/openapi.json")
    assert document.status == 200
    assert {"/classify", "/v1/embeddings", "/v2/models/{model}/infer"} <= set(document.body["paths"])
    page = server.call("/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "/classify" in page.body


def test_the_example_of_every_endpoint_works(server: Running) -> None:
    paths = server.call("/openapi.json").body["paths"]
    examples = {
        path.replace("{model}", "m"): item["post"]["requestBody"]["content"]["application/json"]["example"]
        for path, item in paths.items()
        if "post" in item and "{version}" not in path
    }
    assert len(examples) == 3
    for path, example in examples.items():
        assert server.call(path, example).status == 200, path


def test_answers_of_every_endpoint_are_counted(server: Running) -> None:
    def count() -> float:
        found = re.search(r'cycle_requests_total\{code="200"\} (\S+)', server.call("/metrics").body)
        return float(found[1]) if found else 0.0

    before = count()
    server.call("/v1/embeddings", {"model": "m", "input": "a"})
    server.call("/classify", {"text": "a"})
    server.call("/v1/models")
    assert count() == before + 2
