"""The real server process with a small variant."""

import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cycle_server.protocol.timing import TERMS, parse_timing
from cycle_wire.parts import Variant
from cycle_wire.reports import EXIT_BAD_INPUT
from tests.images.server.serving import Running, serving
from tests.images.server.variants import LABELS, write_variant

TEXTS = ["the cat runs", "a small dog", "the large blue sky of the tree with a cat on it", "cats", "trees running"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("variants") / "v"
    write_variant(path, variant=Variant(name="v"))
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(folder, maximum_batch_size=4, maximum_delay_milliseconds=2, budget_milliseconds=10_000) as running:
        yield running


def answers(body: Any) -> list[tuple[str, float]]:
    by_name = {output["name"]: output["data"] for output in body["outputs"]}
    return list(zip(by_name["label"], by_name["probability"], strict=True))


def test_metadata_and_health(server: Running) -> None:
    assert server.call("/v2").body["name"] == "cycle-server"
    assert server.call("/v2/health/live").status == 200
    metadata = server.call("/v2/models/m").body
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert metadata["outputs"][2]["shape"] == [-1, len(LABELS)]
    version = metadata["versions"][0]
    assert server.call(f"/v2/models/m/versions/{version}/ready").body == {"name": "m", "ready": True}
    assert server.call("/v2/models/m/versions/other").status == 404
    assert server.call("/v2/models/other/ready").status == 404


def test_an_answer_and_its_timing(server: Running) -> None:
    reply = server.infer("the cat runs", id="7", outputs=[{"name": "label"}, {"name": "probabilities"}])
    assert reply.status == 200
    assert reply.body["id"] == "7"
    label, probabilities = reply.body["outputs"]
    assert probabilities["shape"] == [1, len(LABELS)]
    assert sum(probabilities["data"]) == pytest.approx(1, abs=1e-5)
    assert label["data"] == [LABELS[probabilities["data"].index(max(probabilities["data"]))]]
    terms = parse_timing(reply.headers["Server-Timing"])
    assert set(terms) == set(TERMS)
    assert sum(terms.values()) == pytest.approx(int(reply.headers["X-Cycle-Elapsed-Us"]) / 1e6, rel=0.02)


def test_many_at_once_get_the_answers_they_get_alone(server: Running) -> None:
    alone = {text: answers(server.infer(text).body)[0] for text in TEXTS}
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda i: (TEXTS[i % len(TEXTS)], server.infer(TEXTS[i % len(TEXTS)])), range(100)))
    for text, reply in replies:
        label, probability = answers(reply.body)[0]
        assert label == alone[text][0]
        assert probability == pytest.approx(alone[text][1], abs=1e-5)
    sizes = re.findall(r'cycle_batch_size_bucket\{le="1.0"\} (\S+)', server.call("/metrics").body)
    counts = re.findall(r"cycle_batch_size_count (\S+)", server.call("/metrics").body)
    assert float(sizes[0]) < float(counts[0]), "some batches must have had more than one text"
    several = server.infer(*TEXTS)
    assert [label for label, _ in answers(several.body)] == [alone[text][0] for text in TEXTS]


def test_lengths_and_labels_of_computed_texts_are_counted(server: Running) -> None:
    """The operator sees by them when the inputs shift."""

    def counted() -> tuple[float, float]:
        text = server.call("/metrics").body
        lengths = float(re.findall(r"cycle_input_tokens_count (\S+)", text)[0])
        return lengths, sum(float(n) for n in re.findall(r'cycle_answers_total\{index="\d+"\} (\S+)', text))

    before = counted()
    assert server.infer(*TEXTS).status == 200
    assert counted() == (before[0] + len(TEXTS), before[1] + len(TEXTS))


def test_an_empty_text_and_a_very_long_one_are_answered(server: Running) -> None:
    reply = server.infer("", "cat " * 20_000)
    assert reply.status == 200
    assert len(answers(reply.body)) == 2


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, "body"),
        ({"inputs": []}, 400, "inputs"),
        ({"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a"]}]}, 400, "inputs[0].shape"),
        (b" " * 1_100_000, 413, "body"),
    ],
)
def test_bad_requests_name_the_field(server: Running, body: object, status: int, field: str) -> None:
    reply = server.call("/v2/models/m/infer", body)
    assert (reply.status, reply.body["field"]) == (status, field)
    assert field in reply.body["error"]


def test_a_deadline_that_cannot_be_met_is_shed(server: Running) -> None:
    reply = server.infer("the cat", headers={"X-Cycle-Deadline-Ms": "0.001"})
    assert reply.status == 503
    assert int(reply.headers["Retry-After"]) >= 1
    assert server.infer("the cat", headers={"X-Cycle-Deadline-Ms": "soon"}).body["field"] == "X-Cycle-Deadline-Ms"
    assert server.infer("the cat", headers={"X-Cycle-Deadline-Ms": "9000"}).status == 200


def test_metrics_count_terms_by_outcome_and_codes(server: Running) -> None:
    server.infer("a cat", headers={"X-Cycle-Cache": "miss"})
    server.infer("a cat")
    text = server.call("/metrics").body
    for term in (*TERMS, "request"):
        for outcome in ("miss", "direct"):
            assert re.search(rf'cycle_{term}_seconds_count\{{outcome="{outcome}"\}} [1-9]', text), term
    assert 'cycle_requests_total{code="200"}' in text
    assert "cycle_ready 1.0" in text


def test_it_is_live_but_not_ready_before_the_model_is_loaded(folder: Path) -> None:
    with serving(folder, wait=False) as running:
        seen = set()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and "ready" not in seen:
            try:
                ready, live = running.call("/v2/health/ready").status, running.call("/v2/health/live").status
            except OSError:  # it doesn't listen yet
                continue
            assert live == 200
            seen.add("ready" if ready == 200 else "starting")
            if ready != 200:
                early = running.infer("the cat")
                assert early.status in (200, 503)
    assert seen == {"starting", "ready"}


def test_sigterm_finishes_what_comes_and_exits_with_0(folder: Path) -> None:
    with serving(folder) as running:
        statuses: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                statuses.append(running.infer("the cat runs").status)
                time.sleep(0.01)

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.3)
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert running.call("/v2/health/ready").status == 503
        time.sleep(0.5)
        stop.set()
        thread.join()
        assert running.process.wait(timeout=15) == 0
    assert len(statuses) > 20
    assert set(statuses) == {200}


def test_a_broken_variant_is_bad_input(tmp_path: Path) -> None:
    with serving(tmp_path / "none", wait=False) as running:
        assert running.process.wait(timeout=60) == EXIT_BAD_INPUT
