"""tritonclient over gRPC, through a real HAProxy, to a real sidecar before the real server, as in a CycleService."""

import json
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc as plain_grpc
import numpy as np
import pytest
from tritonclient import grpc, http
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from cycle_server.profiler.http import free_port
from cycle_wire.serving import SidecarConfig
from tests.images.clients.conftest import Served
from tests.images.clients.test_triton_grpc import input_of, message
from tests.images.server.variants import DIGEST
from tests.unit.server.sidecar.calls_door import calls_door


@dataclass(frozen=True)
class Pod:
    process: "subprocess.Popen[bytes]"
    url: str
    grpc_url: str

    def metric(self, name: str) -> float:
        text = urllib.request.urlopen(f"http://{self.url}/metrics", timeout=10).read().decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0


@pytest.fixture
def pod(served: Served, tmp_path: Path) -> Iterator[Pod]:
    port = free_port()
    config = SidecarConfig(
        upstream=f"http://{served.url}", port=port, grpc=True, model_digest=DIGEST, variant="v", drain_seconds=10
    )
    file = tmp_path / "sidecar.json"
    file.write_text(config.to_json(), encoding="utf-8")
    process = subprocess.Popen(["python", "-m", "cycle_server.cli", "sidecar", "--config", str(file)])
    try:
        wait_until_ready(f"http://127.0.0.1:{port}/v2/health/ready")
        with calls_door(port) as door:
            yield Pod(process, f"127.0.0.1:{port}", f"127.0.0.1:{door}")
    finally:
        process.kill()
        process.wait()


def wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, "the sidecar was not ready in time"
            time.sleep(0.05)


def test_health_and_metadata_are_the_servers(pod: Pod, served: Served) -> None:
    with grpc.InferenceServerClient(pod.grpc_url) as client, grpc.InferenceServerClient(served.grpc_url) as direct:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("m")
        assert client.get_server_metadata() == direct.get_server_metadata()
        assert client.get_model_metadata("m") == direct.get_model_metadata("m")
        with pytest.raises(InferenceServerException) as error:
            client.infer("other", input_of("a"))
        assert error.value.status() == "StatusCode.NOT_FOUND"
        assert "unknown model 'other', this is 'm'" in str(error.value)


def test_a_question_of_tritons_http_client_is_a_hit_for_its_grpc_client(pod: Pod, served: Served) -> None:
    text = http.InferInput("text", [1], "BYTES")
    text.set_data_from_numpy(np.array(["the cat runs"], dtype=np.object_), binary_data=False)
    outputs = [http.InferRequestedOutput("label", binary_data=False), http.InferRequestedOutput("probabilities", False)]
    asked = [grpc.InferRequestedOutput("label"), grpc.InferRequestedOutput("probabilities")]
    with http.InferenceServerClient(pod.url) as one, grpc.InferenceServerClient(pod.grpc_url) as other:
        first = one.infer("m", [text], outputs=outputs)
        second = other.infer("m", input_of("the cat runs"), outputs=asked, request_id="7")
        third = other.infer("m", input_of("the cat runs"), outputs=asked, request_id="7")
    assert pod.metric('cycle_requests_total{code="200",outcome="miss"}') == 1
    assert pod.metric('cycle_requests_total{code="200",outcome="hit"}') == 2
    assert second.get_response().id == third.get_response().id == "7"
    for found in (second, third):
        assert [label.decode() for label in found.as_numpy("label")] == list(first.as_numpy("label"))
        assert found.as_numpy("probabilities") == pytest.approx(first.as_numpy("probabilities"), abs=1e-7)
    with grpc.InferenceServerClient(served.grpc_url) as direct:
        again = direct.infer("m", input_of("the cat runs"), outputs=asked)
    assert again.as_numpy("probabilities") == pytest.approx(second.as_numpy("probabilities"), abs=1e-5)


def test_refusals_of_the_server_are_said_as_it_says_them(pod: Pod, served: Served) -> None:
    with plain_grpc.insecure_channel(pod.grpc_url) as one, plain_grpc.insecure_channel(served.grpc_url) as two:
        for request, metadata in (
            (message("a", model_version="9"), ()),
            (message("a", inputs=[]), ()),
            (message("a", outputs=[{"name": "score"}]), ()),
            (message("a"), (("x-cycle-deadline-ms", "soon"),)),
            (message("a"), (("x-cycle-deadline-ms", "0.001"),)),
            (message("a"), (("x-cycle-priority", "first"),)),
        ):
            said = []
            for channel in (one, two):
                stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
                with pytest.raises(plain_grpc.RpcError) as error:
                    stub.ModelInfer(request, metadata=metadata)
                trailing = dict(error.value.trailing_metadata())
                said.append((error.value.code(), error.value.details().split(" in ")[0], "retry-after" in trailing))
            assert said[0] == said[1], json.dumps([str(part) for part in said])


def test_sigterm_finishes_what_comes_over_grpc(pod: Pod) -> None:
    with grpc.InferenceServerClient(pod.grpc_url) as client:
        answered: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                text = f"the cat runs {len(answered)}"
                answered.append(len(client.infer("m", input_of(text)).as_numpy("label")))
                time.sleep(0.01)

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.3)
        pod.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert not client.is_server_ready()
        time.sleep(0.5)
        stop.set()
        thread.join()
        assert pod.process.wait(timeout=15) == 0
    assert len(answered) > 10
    assert set(answered) == {1}
