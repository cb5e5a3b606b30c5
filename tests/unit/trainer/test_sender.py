"""The report client against a real HTTP server on this machine."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cycle_wire import sender as sender_module
from cycle_wire.reports import FailureReport, ProgressReport, Report, TrainedReport
from cycle_wire.sender import DeliveryError, Sender, pod_of_token
from cycle_wire.training import JobIdentity, ReportTarget

JOB = JobIdentity(namespace="team", name="job", uid="u1")
FAILURE = FailureReport(reason="BadData", message="why")


def token_of(pod: str) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"kubernetes.io": {"pod": {"name": pod}}}).encode()).decode()
    return f"e30.{claims.rstrip('=')}.c2ln"


def progress(step: int) -> ProgressReport:
    return ProgressReport(
        step=step, total_steps=9, loss=1.0, learning_rate=0.1, samples_per_second=1.0,
        pre_seconds=0.0, compute_seconds=0.1, post_seconds=0.0,
        forward_seconds=0.05, backward_seconds=0.05, all_reduce_seconds=0.0, first_step=0,
        attempt_productive_seconds=0.1 * step, attempt_checkpointing_seconds=0.0,
    )  # fmt: skip


class Operator(ThreadingHTTPServer):
    """Answers with the codes of ``answers`` in turn, then 200; keeps what it got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[int] = []
        self.got: list[tuple[str, Report]] = []
        self.gate = threading.Event()
        self.gate.set()

    def target(self, folder: Path) -> ReportTarget:
        token = folder / "token"
        token.write_text(token_of("pod-a"))
        return ReportTarget(url=f"http://127.0.0.1:{self.server_port}/v1/report", token_path=str(token))


class Handler(BaseHTTPRequestHandler):
    server: Operator

    def do_POST(self) -> None:  # noqa: N802  the base class names it
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.gate.wait(10)
        self.server.got.append((self.headers["Authorization"], Report.model_validate_json(body)))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    monkeypatch.setattr(sender_module, "FIRST_PAUSE_SECONDS", 0.01)
    with Operator() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_503_is_tried_again_with_the_same_number_and_a_fresh_token(operator: Operator, tmp_path: Path) -> None:
    target = operator.target(tmp_path)
    sender = Sender(target=target, job=JOB)
    operator.gate.clear()
    operator.answers = [503, 500]
    sender.post(FAILURE)
    time.sleep(0.1)  # the first attempt waits in the server with the first token
    Path(target.token_path).write_text(token_of("pod-b"))
    operator.gate.set()
    sender.flush(timeout_seconds=10)
    assert [report.pod for _, report in operator.got] == ["pod-a", "pod-b", "pod-b"]
    assert len({report.sequence for _, report in operator.got}) == 1
    assert operator.got[-1][0] == f"Bearer {token_of('pod-b')}"


def test_numbers_rise_also_over_processes(operator: Operator, tmp_path: Path) -> None:
    for _ in range(2):
        sender = Sender(target=operator.target(tmp_path), job=JOB)
        sender.post(FAILURE)
        sender.post(FAILURE)
        sender.flush(timeout_seconds=10)
    numbers = [report.sequence for _, report in operator.got]
    assert len(set(numbers)) == 4 and numbers == sorted(numbers)


def test_a_refusal_is_final_and_flush_raises_it_once(operator: Operator, tmp_path: Path) -> None:
    sender = Sender(target=operator.target(tmp_path), job=JOB)
    operator.answers = [403]
    sender.post(FAILURE)
    with pytest.raises(DeliveryError, match="HTTP 403"):
        sender.flush(timeout_seconds=10)
    sender.flush(timeout_seconds=10)
    assert len(operator.got) == 1


def test_waiting_progress_gives_way_to_newer_but_not_the_rest(operator: Operator, tmp_path: Path) -> None:
    sender = Sender(target=operator.target(tmp_path), job=JOB)
    operator.gate.clear()
    sender.post(FAILURE)
    time.sleep(0.1)
    for step in (1, 2, 3):
        sender.post(progress(step))
    sender.post(
        TrainedReport(uri="pvc://a/b", digest=f"sha256:{'0' * 64}", steps=9, final_loss=0.1, train_rows=1, labels=2)
    )
    operator.gate.set()
    sender.flush(timeout_seconds=10)
    messages = [report.message for _, report in operator.got]
    assert [m.kind for m in messages] == ["Failure", "Progress", "Trained"]
    assert isinstance(messages[1], ProgressReport) and messages[1].step == 3


def test_lost_progress_is_no_error_but_a_lost_failure_is(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "PROGRESS_PATIENCE_SECONDS", 0.05)
    target = operator.target(tmp_path).model_copy(update={"url": "http://127.0.0.1:9/v1/report"})
    sender = Sender(target=target, job=JOB, patience_seconds=0.05)
    sender.post(progress(1))
    sender.flush(timeout_seconds=10)
    sender.post(FAILURE)
    with pytest.raises(DeliveryError, match="not stored within"):
        sender.flush(timeout_seconds=10)


def test_without_a_url_messages_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="cycle_wire.sender")
    sender = Sender(target=ReportTarget(), job=JOB)
    sender.post(FAILURE)
    sender.flush()
    assert "BadData" in caplog.text


def test_pod_name_comes_from_the_token() -> None:
    assert pod_of_token(token_of("worker-0-abc")) == "worker-0-abc"
    assert pod_of_token("opaque") != ""
