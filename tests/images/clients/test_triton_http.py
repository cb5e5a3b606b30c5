"""tritonclient over HTTP: binary tensors both ways unless it is told otherwise."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tritonclient import http
from tritonclient.utils import InferenceServerException

from tests.images.clients.conftest import Served
from tests.images.server.variants import LABELS

TEXTS = ["the cat runs", "ein Bär, 犬", ""]


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[http.InferenceServerClient]:
    with http.InferenceServerClient(served.url) as made:
        yield made


def input_of(texts: list[str], *, binary: bool) -> list[http.InferInput]:
    tensor = http.InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array(texts, dtype=np.object_), binary_data=binary)
    return [tensor]


def expected(served: Served, *texts: str) -> dict[str, Any]:
    reply = served.running.infer(*texts, outputs=[{"name": "label"}, {"name": "probabilities"}])
    return {output["name"]: output["data"] for output in reply.body["outputs"]}


def test_health_and_metadata(client: http.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("m")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("m")
    assert client.get_model_metadata("m", metadata["versions"][0]) == metadata


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_answers_are_the_ones_in_json(
    client: http.InferenceServerClient, served: Served, binary_input: bool, binary_output: bool, compression: str | None
) -> None:
    wanted = expected(served, *TEXTS)
    outputs = [http.InferRequestedOutput(name, binary_data=binary_output) for name in ("probabilities", "label")]
    result = client.infer(
        "m",
        input_of(TEXTS, binary=binary_input),
        outputs=outputs,
        request_id="7",
        request_compression_algorithm=compression,
    )
    assert result.get_response()["id"] == "7"
    labels = [value.decode() if isinstance(value, bytes) else value for value in result.as_numpy("label")]
    assert labels == wanted["label"]
    probabilities = result.as_numpy("probabilities")
    assert probabilities.shape == (len(TEXTS), len(LABELS))
    assert probabilities.ravel() == pytest.approx(wanted["probabilities"], abs=1e-5)


def test_without_outputs_the_default_ones_come_as_bytes(client: http.InferenceServerClient, served: Served) -> None:
    result = client.infer("m", input_of(["a cat"], binary=True))
    assert [output["name"] for output in result.get_response()["outputs"]] == ["label", "probability"]
    assert "data" not in result.get_output("label")
    assert result.as_numpy("label")[0].decode() == expected(served, "a cat")["label"][0]


def test_errors_name_the_field(client: http.InferenceServerClient) -> None:
    tensor = http.InferInput("text", [2, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([["a"], ["b"]], dtype=np.object_))
    with pytest.raises(InferenceServerException, match=r"inputs\[0\].shape"):
        client.infer("m", [tensor])
    with pytest.raises(InferenceServerException, match="unknown model 'other'"):
        client.infer("other", input_of(["a"], binary=True))
    with pytest.raises(InferenceServerException, match="overloaded") as error:
        client.infer("m", input_of(["a"], binary=True), headers={"X-Cycle-Deadline-Ms": "0.001"})
    assert error.value.status() == "503"
