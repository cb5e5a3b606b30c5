"""tritonclient over gRPC, which sends and reads raw contents; and its messages with typed contents."""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc as plain_grpc
import numpy as np
import pytest
from tritonclient import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from cycle_server.process import peak_resident_bytes
from cycle_server.profiler.http import free_port
from tests.images.clients.conftest import Served
from tests.images.server.serving import Running, serving
from tests.images.server.variants import LABELS

TEXTS = ["the cat runs", "ein Bär, 犬", ""]
BOMB_BYTES = 100_000_000  # a hundredth of it when compressed
LONG = " ".join(["tree"] * 46)


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[grpc.InferenceServerClient]:
    with grpc.InferenceServerClient(served.grpc_url) as made:
        yield made


@pytest.fixture(scope="module")
def stub(served: Served) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    with plain_grpc.insecure_channel(served.grpc_url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def input_of(*texts: str) -> list[grpc.InferInput]:
    tensor = grpc.InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array(texts, dtype=np.object_))
    return [tensor]


def message(*texts: str, **fields: Any) -> service_pb2.ModelInferRequest:
    contents = service_pb2.InferTensorContents(bytes_contents=[text.encode() for text in texts])
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "contents": contents}
    return service_pb2.ModelInferRequest(**({"model_name": "m", "inputs": [tensor]} | fields))


def metric(running: Running, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", running.call("/metrics").body, re.MULTILINE)
    return float(found[1]) if found else 0.0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


def test_health_and_metadata(client: grpc.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("m")
    assert client.get_server_metadata().name == "cycle-server"
    metadata = client.get_model_metadata("m")
    assert [tensor.name for tensor in metadata.inputs] == ["text"]
    assert list(metadata.outputs[2].shape) == [-1, len(LABELS)]
    assert client.is_model_ready("m", metadata.versions[0])
    for call in (lambda: client.is_model_ready("m", "9"), lambda: client.get_model_metadata("other")):
        with pytest.raises(InferenceServerException) as error:
            call()
        assert error.value.status() == "StatusCode.NOT_FOUND"


def test_answers_are_those_of_http(client: grpc.InferenceServerClient, served: Served) -> None:
    outputs = [{"name": "label"}, {"name": "probabilities"}]
    reply = served.running.infer(*TEXTS, outputs=outputs)
    labels, probabilities = (output["data"] for output in reply.body["outputs"])
    asked = [grpc.InferRequestedOutput(output["name"]) for output in outputs]
    result = client.infer("m", input_of(*TEXTS), outputs=asked, request_id="7")
    assert result.get_response().id == "7"
    assert [label.decode() for label in result.as_numpy("label")] == labels
    assert result.as_numpy("probabilities").shape == (len(TEXTS), len(LABELS))
    assert result.as_numpy("probabilities").ravel() == pytest.approx(probabilities, abs=1e-5)


def test_typed_contents_are_answered_in_typed_contents(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, served: Served
) -> None:
    labels = served.running.infer(*TEXTS).body["outputs"][0]["data"]
    answer, call = stub.ModelInfer.with_call(message(*TEXTS))
    assert [label.decode() for label in answer.outputs[0].contents.bytes_contents] == labels
    assert len(answer.outputs[1].contents.fp32_contents) == len(TEXTS)
    assert not answer.raw_output_contents
    assert "compute;dur=" in dict(call.initial_metadata())["server-timing"]


@pytest.mark.parametrize(
    ("request_message", "code", "text"),
    [
        (message("a", model_name="other"), plain_grpc.StatusCode.NOT_FOUND, "unknown model 'other', this is 'm'"),
        (message("a", model_version="9"), plain_grpc.StatusCode.NOT_FOUND, "unknown version '9'"),
        (message("a", inputs=[]), plain_grpc.StatusCode.INVALID_ARGUMENT, "inputs: "),
        (message("a", outputs=[{"name": "score"}]), plain_grpc.StatusCode.INVALID_ARGUMENT, "outputs[0].name: "),
        (message(*["a"] * 257), plain_grpc.StatusCode.INVALID_ARGUMENT, "inputs[0].contents.bytes_contents: "),
        (message("x" * 1_100_000), plain_grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
    ],
    ids=lambda part: str(part)[:30],
)
def test_errors_have_their_code_and_name_the_field(
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
    request_message: service_pb2.ModelInferRequest,
    code: plain_grpc.StatusCode,
    text: str,
) -> None:
    with pytest.raises(plain_grpc.RpcError) as error:
        stub.ModelInfer(request_message)
    assert error.value.code() is code
    assert text in error.value.details()


def test_a_message_that_unpacks_to_far_more_is_refused_before_it_fills_memory(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, served: Served
) -> None:
    bomb = message("x" * BOMB_BYTES)
    before = peak_resident_bytes(served.running.process.pid)
    with pytest.raises(plain_grpc.RpcError) as error:
        stub.ModelInfer(bomb, compression=plain_grpc.Compression.Gzip)
    assert error.value.code() is plain_grpc.StatusCode.RESOURCE_EXHAUSTED
    assert peak_resident_bytes(served.running.process.pid) - before < BOMB_BYTES / 2


def test_a_deadline_in_the_metadata_sheds_and_says_when_to_come_again(
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    with pytest.raises(plain_grpc.RpcError) as error:
        stub.ModelInfer(message("a"), metadata=(("x-cycle-deadline-ms", "0.001"),))
    assert error.value.code() is plain_grpc.StatusCode.UNAVAILABLE
    trailing = dict(error.value.trailing_metadata())
    assert int(trailing["retry-after"]) >= 1
    assert int(trailing["grpc-retry-pushback-ms"]) >= 1
    with pytest.raises(plain_grpc.RpcError) as error:
        stub.ModelInfer(message("a"), metadata=(("x-cycle-deadline-ms", "soon"),))
    assert (error.value.code(), error.value.details()) == (
        plain_grpc.StatusCode.INVALID_ARGUMENT,
        "X-Cycle-Deadline-Ms: must be a number of milliseconds, 0 or more",
    )
    assert stub.ModelInfer(message("a"), metadata=(("x-cycle-deadline-ms", "50000"),)).outputs


def test_the_deadline_of_the_call_itself_counts(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    """What takes far longer than the deadline is refused at once, before the deadline comes."""
    long_one = message(*[LONG] * 256)
    started = time.monotonic()
    stub.ModelInfer(long_one, timeout=60)
    seconds = time.monotonic() - started
    with pytest.raises(plain_grpc.RpcError) as error:
        stub.ModelInfer(long_one, timeout=seconds / 3)
    assert error.value.code() is plain_grpc.StatusCode.UNAVAILABLE
    assert "the deadline is in" in error.value.details()


def test_nothing_is_computed_for_a_client_that_went_away(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, served: Served
) -> None:
    before = metric(served.running, "cycle_batch_size_count")
    call = stub.ModelInfer.future(message(*[LONG] * 256))
    wait_for(lambda: metric(served.running, "cycle_batch_size_count") > before)
    call.cancel()
    wait_for(lambda: metric(served.running, "cycle_requests_in_flight") == 0)
    assert metric(served.running, "cycle_queue_texts") == 0
    assert metric(served.running, "cycle_batch_size_count") - before < 256 / 4


def test_sigterm_finishes_what_comes_over_grpc(served: Served) -> None:
    port = free_port()
    with serving(served.folder, grpc_port=port) as running, grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:
        answered: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                answered.append(len(client.infer("m", input_of("the cat runs")).as_numpy("label")))
                time.sleep(0.01)

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.3)
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert not client.is_server_ready()
        time.sleep(0.5)
        stop.set()
        thread.join()
        assert running.process.wait(timeout=15) == 0
    assert len(answered) > 20
    assert set(answered) == {1}
