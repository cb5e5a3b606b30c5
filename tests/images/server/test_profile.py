"""`cycle-server profile` from end to end: a valid Profile reaches the report endpoint over HTTP."""

import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cycle_server.engine.load import load_variant
from cycle_server.profiler.measure import FEWEST_SAMPLES
from cycle_server.texts import TextSource
from cycle_wire.parts import Evaluation, Fields, Precision, Quantization, Variant
from cycle_wire.profile import Pace
from cycle_wire.reports import EXIT_BAD_INPUT, FailureReport, ProfileReport, Report
from cycle_wire.serving import ProfileVariant, ProfilingConfig
from cycle_wire.training import JobIdentity, ReportTarget
from tests.images.server.variants import DIGEST, LABELS, WORDS, write_variant

VARIANTS = [
    Variant(name="bf16", precision=Precision.BFLOAT16),
    Variant(name="int8", quantization=Quantization()),
]


class Endpoint:
    """Stores the reports that it is sent."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802 - the standard library's name
                body = self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.reports.append(Report.model_validate_json(body))
                self.send_response(200)
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/report"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.server.shutdown()
    made.server.server_close()


def write_rows(path: Path, count: int) -> None:
    source = random.Random(0)
    words = [word for word in WORDS if not word.startswith("##")]
    lines = [
        json.dumps({"gloss": " ".join(source.choices(words, k=source.randint(2, 20))), "kind": source.choice(LABELS)})
        for _ in range(count)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def profiled(tmp_path: Path, endpoint: Endpoint) -> dict[str, Any]:
    """Fields of a ProfilingConfig that say nothing of what is measured."""
    (tmp_path / "token").write_text("token", encoding="utf-8")
    return {
        "job": JobIdentity(namespace="n", name="j", uid="u"),
        "hardware_class": "cpu",
        "hardware_class_hash": "h",
        "image": "i",
        "report": ReportTarget(url=endpoint.url, token_path=str(tmp_path / "token")),
    }


def run(tmp_path: Path, config: ProfilingConfig) -> int:
    """The exit code."""
    (tmp_path / "config.json").write_text(config.to_json(), encoding="utf-8")
    command = [sys.executable, "-m", "cycle_server.cli", "profile", "--config", str(tmp_path / "config.json")]
    return subprocess.run(command, timeout=300, check=False).returncode


def run_profile(tmp_path: Path, endpoint: Endpoint, *, label_field: str = "kind", workers: int = 1) -> int:
    write_rows(tmp_path / "rows.jsonl", 300)
    for variant in VARIANTS:
        write_variant(tmp_path / variant.name, variant=variant)
    config = ProfilingConfig(
        **profiled(tmp_path, endpoint),
        model_digest=DIGEST,
        variants=[ProfileVariant(variant=variant, path=str(tmp_path / variant.name)) for variant in VARIANTS],
        evaluation_path=str(tmp_path / "rows.jsonl"),
        fields=Fields(text="gloss", label=label_field),
        evaluation=Evaluation(metrics=["accuracy", "f1Macro"], maximum_rows=200),
        batch_sizes=[1, 4],
        sequence_lengths=[8, 16],
        workers=workers,
    )
    return run(tmp_path, config)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_profile_of_each_variant_is_reported(tmp_path: Path, endpoint: Endpoint, workers: int) -> None:
    assert run_profile(tmp_path, endpoint, workers=workers) == 0
    messages = [report.message for report in endpoint.reports]
    assert all(isinstance(message, ProfileReport) for message in messages)
    profiles = [message.profile for message in messages if isinstance(message, ProfileReport)]
    assert [profile.variant for profile in profiles] == ["bf16", "int8"]
    for profile in profiles:
        assert profile.workers == workers
        cells = {(row.pace, row.batch_size, row.sequence_length) for row in profile.rows}
        assert cells == {(pace, b, n) for pace in Pace for b in (1, 4) for n in (8, 16)}
        assert all(h.count >= FEWEST_SAMPLES for row in profile.rows for h in (row.pre, row.compute, row.post))
        assert {metric.name: metric.rows for metric in profile.metrics} == {"accuracy": 200, "f1Macro": 200}
        assert profile.batch_invariant
        assert profile.neighbour_difference < 0.02
        assert profile.overhead.count >= 100
        assert profile.cache_hit.count >= 100
        assert 0 < profile.overhead.quantile_seconds(0.5) < 0.1
        # The sidecar's part of a miss is about what a hit costs; the server's comes on top.
        assert 0 < profile.cache_hit_cpu_seconds < profile.overhead_cpu_seconds < 0.1
        assert profile.memory_bytes > 100 * 2**20
        assert profile.startup_seconds > 0.5


def test_a_field_that_is_not_in_the_data_is_reported_and_final(tmp_path: Path, endpoint: Endpoint) -> None:
    assert run_profile(tmp_path, endpoint, label_field="absent") == EXIT_BAD_INPUT
    (failure,) = [report.message for report in endpoint.reports]
    assert isinstance(failure, FailureReport)
    assert failure.field == "spec.data.fields.label"
    assert "'absent'" in failure.message


def test_texts_have_exactly_the_length_asked_for(tmp_path: Path) -> None:
    write_variant(tmp_path / "v", variant=Variant(name="v"))
    tokenizer = load_variant(tmp_path / "v").tokenizer
    tokenizer.no_truncation()
    source = TextSource(["the cat runs", "a dog", "trees of the sky"], tokenizer=tokenizer, seed=0)
    for length in (3, 5, 16, 30):
        for _ in range(5):  # more than there are texts of that length: the rest is joined
            text = source.take(length)
            assert abs(source.length_of(text) - length) <= 1
