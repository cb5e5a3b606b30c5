"""A real server of images: every protocol's answers are transformers' own, and a profile reaches the operator."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedModel

from cycle_server.engine.image import ImageEngine
from cycle_server.errors import BadVariantError
from cycle_wire.parts import Evaluation, Fields, Variant
from cycle_wire.profile import Pace
from cycle_wire.reports import EXIT_BAD_INPUT, FailureReport, ProfileReport
from cycle_wire.serving import ProfileVariant, ProfilingConfig
from tests.images.server.image_variants import SHAPE, probabilities_by, write_image_variant
from tests.images.server.serving import Reply, Running, serving
from tests.images.server.test_profile import Endpoint, endpoint, profiled, run
from tests.images.server.variants import DIGEST, LABELS

__all__ = ["endpoint"]
OUTPUTS = [{"name": "label"}, {"name": "probabilities"}]
INFER = "/v2/models/m/infer"


def images_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(count, *SHAPE), dtype=np.uint8)


IMAGES = images_of(5)


@pytest.fixture(scope="module")
def model_and_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PreTrainedModel, Running]]:
    """Two workers: the front hands images over to processes that compute."""
    folder = tmp_path_factory.mktemp("variants") / "v"
    model = write_image_variant(folder, variant=Variant(name="v"))
    with serving(folder, maximum_batch_size=4, budget_milliseconds=60_000, workers=2) as running:
        yield model, running


def tensor(images: np.ndarray, **fields: Any) -> dict[str, Any]:
    content = {"name": "image", "shape": list(images.shape), "datatype": "UINT8", "data": images.tolist()}
    return {"inputs": [content | fields], "outputs": OUTPUTS}


def answered(reply: Reply) -> np.ndarray:
    assert reply.status == 200, reply.body
    labels, probabilities = reply.body["outputs"]
    found = np.array(probabilities["data"]).reshape(probabilities["shape"])
    assert labels["data"] == [LABELS[place] for place in found.argmax(axis=1)]
    return found


def test_every_protocol_answers_as_transformers_does(model_and_server: tuple[PreTrainedModel, Running]) -> None:
    model, server = model_and_server
    expected = probabilities_by(model, IMAGES)
    floats = (IMAGES / 255).astype(np.float32)
    content = tensor(IMAGES, parameters={"binary_data_size": floats.nbytes}, datatype="FP32")
    del content["inputs"][0]["data"]
    head = json.dumps(content).encode()
    header = {"Inference-Header-Content-Length": str(len(head))}
    replies = [
        server.call(INFER, tensor(IMAGES)),
        server.call(INFER, tensor(IMAGES, data=IMAGES.ravel().tolist())),
        server.call(INFER, tensor(IMAGES, data=floats.ravel().tolist(), datatype="FP32")),
        server.call(INFER, head + struct.pack(f"<{floats.size}f", *floats.ravel()), headers=header),
    ]
    for reply in replies:
        assert answered(reply) == pytest.approx(expected, abs=1e-5)
        assert "compute;dur=" in reply.headers["Server-Timing"]
    results = server.call("/classify", {"images": IMAGES.tolist(), "top": len(LABELS)}).body["results"]
    for result, row in zip(results, expected, strict=True):
        assert {score["label"]: score["probability"] for score in result["scores"]} == pytest.approx(
            dict(zip(LABELS, row.tolist(), strict=True)), abs=1e-5
        )


def test_what_a_model_of_images_is_and_does_not_do(model_and_server: tuple[PreTrainedModel, Running]) -> None:
    _, server = model_and_server
    assert server.call("/v2/models/m").body["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, *SHAPE]}]
    refused = server.call("/v1/embeddings", {"model": "m", "input": "a"})
    assert refused.status == 404 and "classifies images" in refused.body["error"]["message"]
    text = server.infer("a text")
    assert (text.status, text.body["field"]) == (400, "inputs[0].name")
    other = server.call(INFER, tensor(IMAGES[:, :, :4]))
    assert (other.status, other.body["field"]) == (400, "inputs[0].shape")
    assert "[3, 8, 6]" in other.body["error"]
    paths = server.call("/openapi.json").body["paths"]
    for path in ("/classify", "/v2/models/{model}/infer"):
        example = paths[path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert server.call(path.replace("{model}", "m"), example).status == 200, path


@pytest.mark.parametrize("family", ["vit", "convnext"])
def test_the_engine_computes_what_transformers_does(tmp_path: Path, family: str) -> None:
    model = write_image_variant(tmp_path / "v", family=family, variant=Variant(name="v"))
    engine = ImageEngine(tmp_path / "v", threads=1)
    answers = engine.post(engine.compute(engine.pre(IMAGES)))
    assert answers.probabilities == pytest.approx(probabilities_by(model, IMAGES), abs=1e-5)
    alone = np.concatenate([engine.compute([item]) for item in engine.pre(IMAGES)])
    assert alone == pytest.approx(engine.compute(engine.pre(IMAGES)), abs=1e-4)


def test_a_folder_that_is_not_right_says_what(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    write_image_variant(folder, variant=Variant(name="v"))
    config = json.loads((folder / "config.json").read_text())
    for change, words in (
        ({"model_type": "resnet"}, "none of convnext, vit"),
        ({"num_channels": 1}, "size mismatch"),
        ({"id2label": {"0": "a"}, "label2id": {"a": 0}}, "5 labels for 1 classes"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(BadVariantError, match=words):
            ImageEngine(folder, threads=1)
    (folder / "config.json").unlink()
    with pytest.raises(BadVariantError, match=r"config\.json"):
        ImageEngine(folder, threads=1)


def profiling(tmp_path: Path, endpoint: Endpoint, *, rows: list[dict[str, Any]]) -> int:
    variant = Variant(name="v")
    write_image_variant(tmp_path / "v", variant=variant)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = ProfilingConfig(
        **profiled(tmp_path, endpoint),
        model_digest=DIGEST,
        variants=[ProfileVariant(variant=variant, path=str(tmp_path / "v"))],
        evaluation_path=str(tmp_path / "rows.jsonl"),
        fields=Fields(image="scan", label="kind"),
        evaluation=Evaluation(metrics=["accuracy", "f1Macro"]),
        batch_sizes=[1, 4],
        sequence_lengths=[16, 32, 64],
    )
    return run(tmp_path, config)


def test_a_profile_of_images_has_one_length(tmp_path: Path, endpoint: Endpoint) -> None:
    images = images_of(60)
    model = write_image_variant(tmp_path / "same", variant=Variant(name="v"))
    best = probabilities_by(model, images).argmax(axis=1)
    rows = [{"scan": image.tolist(), "kind": LABELS[place]} for image, place in zip(images, best, strict=True)]
    rows[0]["kind"] = LABELS[(best[0] + 1) % len(LABELS)]
    assert profiling(tmp_path, endpoint, rows=rows) == 0
    (message,) = [report.message for report in endpoint.reports]
    assert isinstance(message, ProfileReport)
    profile = message.profile
    cells = {(row.pace, row.batch_size, row.sequence_length) for row in profile.rows}
    assert cells == {(pace, size, 1) for pace in Pace for size in (1, 4)}
    assert {metric.name: metric.value for metric in profile.metrics}["accuracy"] == pytest.approx(59 / 60)
    assert profile.batch_invariant and profile.overhead.count >= 100 and profile.cache_hit.count >= 100


def test_an_image_of_another_size_ends_the_profile(tmp_path: Path, endpoint: Endpoint) -> None:
    assert profiling(tmp_path, endpoint, rows=[{"scan": [[1, 2], [3, 4]], "kind": LABELS[0]}]) == EXIT_BAD_INPUT
    (failure,) = [report.message for report in endpoint.reports]
    assert isinstance(failure, FailureReport)
    assert (failure.reason, failure.field) == ("BadData", "spec.data.fields.image")
    assert "line 1: field 'scan' is [2, 2], the model takes [3, 8, 6]" in failure.message
