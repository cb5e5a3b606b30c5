"""tritonclient asks a model of images, over HTTP and gRPC, with pixels and with shares of the brightest."""

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
from transformers import PreTrainedModel
from tritonclient import grpc, http

from cycle_server.profiler.http import free_port
from cycle_wire.parts import Variant
from tests.images.server.image_variants import SHAPE, probabilities_by, write_image_variant
from tests.images.server.serving import serving

IMAGES = np.random.default_rng(1).integers(0, 256, size=(3, *SHAPE), dtype=np.uint8)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PreTrainedModel, dict[ModuleType, str]]]:
    """The model as transformers computes it, and the address for each kind of client."""
    folder = tmp_path_factory.mktemp("variants") / "v"
    model = write_image_variant(folder, family="convnext", variant=Variant(name="v"))
    port = free_port()
    with serving(folder, maximum_batch_size=4, budget_milliseconds=60_000, grpc_port=port) as running:
        yield model, {http: f"127.0.0.1:{running.port}", grpc: f"127.0.0.1:{port}"}


@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
@pytest.mark.parametrize("kind", [http, grpc], ids=["http", "grpc"])
def test_both_clients_get_what_transformers_computes(
    served: tuple[PreTrainedModel, dict[ModuleType, str]], kind: ModuleType, datatype: str
) -> None:
    model, urls = served
    client = kind.InferenceServerClient(urls[kind])
    tensor = kind.InferInput("image", list(IMAGES.shape), datatype)
    tensor.set_data_from_numpy(IMAGES if datatype == "UINT8" else (IMAGES / 255).astype(np.float32))
    answer = client.infer("m", [tensor], outputs=[kind.InferRequestedOutput("probabilities")])
    assert answer.as_numpy("probabilities") == pytest.approx(probabilities_by(model, IMAGES), abs=1e-5)
