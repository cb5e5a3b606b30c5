"""The real server process with a small language model: answers, streams, limits, life cycle."""

import json
import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from cycle_server.engine.causal.model import CausalEngine
from cycle_server.protocol.timing import TERMS, parse_timing
from cycle_wire.parts import Variant
from tests.images.server.causal_variants import CONTEXT, TEXTS, tokenizer, write_causal
from tests.images.server.serving import Running, serving

PROMPTS = [TEXTS[0], "The cat", TEXTS[1], "a", "Once upon a time there was", TEXTS[2]]
SETTINGS = {"maximum_batch_size": 4, "budget_milliseconds": 60_000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("variants") / "v"


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    return write_causal(folder, variant=Variant(name="v"))


@pytest.fixture(scope="module")
def server(folder: Path, reference: Any) -> Iterator[Running]:
    assert reference is not None
    with serving(folder, **SETTINGS) as running:
        yield running


def expected(reference: Any, text: str, new: int) -> str:
    made = tokenizer()
    prompt = made(text).input_ids
    with torch.no_grad():
        out = reference.generate(
            torch.tensor([prompt]), max_new_tokens=new, do_sample=False, pad_token_id=0, eos_token_id=None
        )
    return made.decode(out[0, len(prompt) :], skip_special_tokens=True)


def metric(server: Running, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", server.call("/metrics").body, re.MULTILINE)
    return float(found[1]) if found else 0.0


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def events(server: Running, path: str, body: dict[str, Any]) -> list[Any]:
    """Of a stream; its last one is [DONE]."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", data=json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        lines = answer.read().decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def open_stream(server: Running, body: dict[str, Any], path: str = "/generate") -> socket.socket:
    """Its first bytes have come."""
    content = json.dumps({**body, "stream": True}).encode()
    client = socket.create_connection(("127.0.0.1", server.port))
    head = (
        f"POST {path} HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    client.sendall(head.encode() + content)
    assert client.recv(65536).startswith(b"HTTP/1.1 200")
    return client


def test_answers_of_many_at_once_are_those_of_transformers(server: Running, reference: Any) -> None:
    """Six on four places, of mixed lengths: they join and leave between steps."""
    asked = [{"prompt": text, "max_tokens": 10 + 9 * i} for i, text in enumerate(PROMPTS)]
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda body: server.call("/generate", body), asked))
    for body, reply in zip(asked, replies, strict=True):
        assert reply.status == 200
        assert reply.body["text"] == expected(reference, body["prompt"], body["max_tokens"])
        assert reply.body["finish_reason"] == "length"
        prompt = len(tokenizer()(body["prompt"]).input_ids)
        new = body["max_tokens"]
        assert reply.body["usage"] == {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}


def test_terms_add_up_and_tokens_are_timed(server: Running) -> None:
    before = {
        name: metric(server, f"cycle_{name}") for name in ("first_token_seconds_count", "per_token_seconds_count")
    }
    started = time.perf_counter()
    reply = server.call("/generate", {"prompt": "The cat", "max_tokens": 20})
    seconds = time.perf_counter() - started
    terms = parse_timing(reply.headers["Server-Timing"])
    assert set(terms) == set(TERMS)
    assert sum(terms.values()) == pytest.approx(int(reply.headers["X-Cycle-Elapsed-Us"]) / 1e6, abs=1e-4)
    assert terms["compute"] <= sum(terms.values()) <= seconds
    assert terms["compute"] > terms["post"]
    assert metric(server, "cycle_first_token_seconds_count") == before["first_token_seconds_count"] + 1
    assert metric(server, "cycle_per_token_seconds_count") == before["per_token_seconds_count"] + 19


@pytest.mark.parametrize("path", ["/generate", "/v1/completions"])
def test_a_stream_is_the_whole_answer_in_pieces(server: Running, path: str) -> None:
    body = {"prompt": TEXTS[1], "max_tokens": 60, "temperature": 0}
    if path == "/v1/completions":
        body["model"] = "m"
    whole = server.call(path, body).body
    told = events(server, path, {**body, "stream": True})
    if path == "/generate":
        assert "".join(event["text"] for event in told) == whole["text"]
        assert told[-1]["usage"] == whole["usage"]
    else:
        assert "".join(event["choices"][0]["text"] for event in told) == whole["choices"][0]["text"]
    assert len(told) > 20, "as it comes"


def test_an_answer_ends_before_a_stop_text_and_at_the_models_end(server: Running, tmp_path: Path) -> None:
    whole = server.call("/generate", {"prompt": "a", "max_tokens": 60}).body["text"]
    stop = whole[20:23]
    reply = server.call("/generate", {"prompt": "a", "max_tokens": 60, "stop": [stop, "never"]})
    assert reply.body["text"] == whole[: whole.index(stop)]
    assert reply.body["finish_reason"] == "stop"
    assert reply.body["usage"]["completion_tokens"] < 60
    write_causal(tmp_path / "v", variant=Variant(name="v"), ends=True)
    engine = CausalEngine(tmp_path / "v", threads=1, pool_bytes=1 << 20, sequences=1)
    (end,) = engine.end_tokens
    with serving(tmp_path / "v", **SETTINGS) as other:
        replies = [other.call("/generate", {"prompt": f"{i}", "max_tokens": 120}).body for i in range(60)]
    ended = [reply for reply in replies if reply["finish_reason"] == "stop"]
    assert 0 < len(ended) < 60
    assert all(reply["usage"]["completion_tokens"] < 120 for reply in ended)
    assert end not in tokenizer()(ended[0]["text"]).input_ids


def test_draws_follow_the_seed_the_temperature_and_the_likeliest(server: Running) -> None:
    body = {"prompt": "The cat", "max_tokens": 30, "temperature": 1.0}
    one, again = (server.call("/generate", {**body, "seed": 7}) for _ in range(2))
    assert one.body["text"] == again.body["text"]
    assert one.headers["Cache-Control"] == "no-store"
    assert server.call("/generate", {**body, "seed": 8}).body["text"] != one.body["text"]
    assert server.call("/generate", body).body["text"] != server.call("/generate", body).body["text"]
    greedy = server.call("/generate", {**body, "temperature": 0})
    assert "Cache-Control" not in greedy.headers
    assert server.call("/generate", {**body, "top_k": 1}).body["text"] == greedy.body["text"]
    smallest = ({"top_p": 1e-6}, {"top_p": 5e-324}, {"temperature": 1e-45}, {"temperature": 5e-324})
    assert {server.call("/generate", {**body, **least}).body["text"] for least in smallest} == {greedy.body["text"]}


def test_open_inference_protocol_generates_several(server: Running) -> None:
    metadata = server.call("/v2/models/m").body
    assert [output["name"] for output in metadata["outputs"]] == ["generated_text", "finish_reason"]
    reply = server.infer("The cat", "a", parameters={"max_tokens": 12}, id="7")
    assert reply.status == 200
    texts, finish = reply.body["outputs"]
    assert reply.body["id"] == "7"
    assert texts["shape"] == [2]
    assert texts["data"] == [
        server.call("/generate", {"prompt": prompt, "max_tokens": 12}).body["text"] for prompt in ("The cat", "a")
    ]
    assert finish["data"] == ["length", "length"]
    assert server.infer("a", parameters={"max_tokens": 0}).body["field"] == "parameters.max_tokens"
    assert server.infer("a", "cat " * CONTEXT).body["field"] == "inputs[0].data[1]"


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("/generate", {}, "prompt"),
    ("/generate", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "prompt"),
    ("/generate", {"prompt": "a", "temperature": 3}, "temperature"),
    ("/generate", {"prompt": "a", "top_p": 0}, "top_p"),
    ("/generate", {"prompt": "a", "stop": ["a"] * 5}, "stop"),
    ("/generate", {"prompt": "a", "stop": [""]}, "stop[0]"),
    ("/generate", {"prompt": "cat " * CONTEXT}, "prompt"),
    ("/v1/completions", {"model": "m", "prompt": "a", "n": 2}, "n"),
    ("/v1/completions", {"model": "m", "prompt": "a", "logprobs": 3}, "logprobs"),
    ("/v1/completions", {"model": "m", "prompt": [1, 2]}, "prompt"),
    ("/v1/chat/completions", {"model": "m", "messages": []}, "messages"),
    ("/v1/chat/completions", {"model": "m", "messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
    ("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "a"}], "tools": []}, "tools"),
    ("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "cat " * CONTEXT}]}, "messages"),
]


@pytest.mark.parametrize(("path", "body", "field"), BAD)
def test_a_wrong_field_is_named(server: Running, path: str, body: dict[str, Any], field: str) -> None:
    reply = server.call(path, body)
    assert reply.status == 400
    named = reply.body["error"]["param"] if path.startswith("/v1/") else reply.body["field"]
    assert named == field


def test_what_another_task_is_asked_for_is_not_found(server: Running) -> None:
    for path in ("/classify", "/v1/embeddings"):
        reply = server.call(path, {"text": "a", "input": "a", "model": "m"})
        assert reply.status == 404
        assert "generates text" in json.dumps(reply.body)
    paths = server.call("/openapi.json").body["paths"]
    assert "/v1/chat/completions" in paths
    assert "/classify" not in paths
    assert "server-sent events" in server.call("/docs").body


def test_without_a_chat_template_chats_are_refused(tmp_path: Path) -> None:
    write_causal(tmp_path / "v", variant=Variant(name="v"), family="gpt2", chat=False)
    with serving(tmp_path / "v", **SETTINGS) as server:
        chat = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
        reply = server.call("/v1/chat/completions", chat)
        assert reply.status == 400
        assert "no chat template" in reply.body["error"]["message"]
        assert server.call("/v1/completions", {"model": "m", "prompt": "a"}).status == 200


def test_a_client_that_goes_away_frees_its_place_and_its_blocks(server: Running) -> None:
    clients = [open_stream(server, {"prompt": "The cat", "max_tokens": 150}) for _ in range(3)]
    for client in clients:
        client.close()
    eventually(lambda: metric(server, "cycle_running_sequences") == 0)
    assert metric(server, "cycle_key_value_blocks_used") == 0
    eventually(lambda: metric(server, "cycle_requests_in_flight") == 0)


def test_a_full_pool_preempts_and_every_answer_is_right_all_the_same(folder: Path, reference: Any) -> None:
    """The pool holds one longest sequence: four at once can't all stay."""
    with serving(folder, **SETTINGS, key_value_bytes=1) as server:
        asked = [{"prompt": text, "max_tokens": 70} for text in PROMPTS[:5]]
        with ThreadPoolExecutor(5) as pool:
            replies = list(pool.map(lambda body: server.call("/generate", body), asked))
        assert [reply.body["text"] for reply in replies] == [
            expected(reference, str(body["prompt"]), 70) for body in asked
        ]
        assert metric(server, "cycle_preempted_sequences_total") > 0
        eventually(lambda: metric(server, "cycle_key_value_blocks_used") == 0)


def test_what_cannot_begin_in_time_is_refused_and_told_when_to_come(server: Running) -> None:
    reply = server.call("/v1/completions", {"model": "m", "prompt": "a"}, headers={"X-Cycle-Deadline-Ms": "0.001"})
    assert reply.status == 503
    assert int(reply.headers["Retry-After"]) >= 1
    assert reply.body["error"]["type"] == "server_error"
    assert (
        server.call("/generate", {"prompt": "a"}, headers={"X-Cycle-Tenant": "a b"}).body["field"] == "X-Cycle-Tenant"
    )


def test_sigterm_lets_streams_end(folder: Path, reference: Any) -> None:
    with serving(folder, **SETTINGS) as server:
        told: list[Any] = []
        body = {"prompt": "The cat", "max_tokens": 150, "stream": True}
        thread = threading.Thread(target=lambda: told.extend(events(server, "/generate", body)))
        thread.start()
        eventually(lambda: metric(server, "cycle_running_sequences") == 1 or bool(told))
        server.process.send_signal(signal.SIGTERM)
        thread.join()
        assert "".join(event["text"] for event in told) == expected(reference, "The cat", 150)
        assert server.process.wait(timeout=20) == 0
