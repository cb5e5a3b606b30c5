"""Images as rows and requests have them: read alike from every encoding, and refused with the field's name."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cycle_server.engine.stages import ImageStages
from cycle_server.images import ImageFormat
from cycle_server.items import Items
from cycle_server.profiler.asking import different_images
from cycle_server.protocol import binary, grpc_messages, openapi, tasks, v2, v2_image, v2_kinds
from cycle_server.protocol.open_inference_pb2 import InferTensorContents, ModelInferRequest
from cycle_server.protocol.v2_image import ImageInferRequest
from cycle_server.server.reading import classified_images, items_of
from cycle_server.workers.messages import read_items, write_items
from cycle_wire.parts import Task, Variant
from cycle_wire.variant import VariantManifest

PIXELS = [0, 51, 102, 153, 204, 255]  # fifths, so that FP32 says them exactly enough
SHAPE = (1, 2, 3)
DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def stages(tmp_path: Path) -> ImageStages:
    (tmp_path / "config.json").write_text(json.dumps({"num_channels": 1, "image_size": [2, 3]}))
    manifest = VariantManifest(
        variant=Variant(name="v"), task=Task.IMAGE_CLASSIFICATION, model_digest=DIGEST, weights_digest=DIGEST,
        size_bytes=0, parameters=0, sparsity=0, labels=["a", "b"],
    )  # fmt: skip
    return ImageStages(ImageFormat.of(tmp_path), manifest=manifest)


def described(**fields: Any) -> dict[str, Any]:
    return {"name": "image", "shape": [1, *SHAPE], "datatype": "UINT8", **fields}


def asked(**fields: Any) -> v2.InferRequest:
    return v2.parse_infer(json.dumps({"inputs": [described(**fields)]}).encode(), ImageInferRequest)


def pixels_of(items: Items) -> list[list[int]]:
    return [np.asarray(item).ravel().tolist() for item in items]


def test_every_encoding_holds_the_same_image(stages: ImageStages) -> None:
    shares = [pixel / 255 for pixel in PIXELS]
    floats = struct.pack("<6f", *shares)
    tail = json.dumps({"inputs": [described(parameters={"binary_data_size": 6})]}).encode()
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, *SHAPE]}
    requests = [
        asked(data=PIXELS),
        asked(data=[[[PIXELS[:3], PIXELS[3:]]]]),
        asked(data=shares, datatype="FP32"),
        binary.read(tail + bytes(PIXELS), header_length=str(len(tail)), kind=ImageInferRequest),
        grpc_messages.read(
            ModelInferRequest(
                inputs=[{**tensor, "contents": InferTensorContents(fp32_contents=shares)}]  # type: ignore[list-item]
            ),
            ImageInferRequest,
        ),
        grpc_messages.read(
            ModelInferRequest(inputs=[tensor], raw_input_contents=[floats]),  # type: ignore[list-item]
            ImageInferRequest,
        ),
    ]
    for request in requests:
        (item,) = items_of(stages, request)
        assert len(item) == 1
        assert pixels_of([item]) == [PIXELS]
    one, two = classified_images(stages, tasks.parse_classify_images(b'{"images": [[[0,51,102],[153,204,255]], %s]}'
                                 % json.dumps([[PIXELS[:3], PIXELS[3:]]]).encode()))  # fmt: skip
    assert pixels_of([one]) == pixels_of([two]) == [PIXELS]


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"name": "text"}, "inputs[0].name", "image"),
    ({"datatype": "BYTES"}, "inputs[0].datatype", "UINT8"),
    ({"shape": [1, 6]}, "inputs[0].shape", "4"),
    ({"shape": [2, *SHAPE]}, "inputs[0].shape", "data has 6 numbers"),
    ({"shape": [-1, -1, 2, 3]}, "inputs[0].shape", "data has 6 numbers"),
    ({"shape": [1, 1, 3, 2]}, "inputs[0].shape", "takes [1, 2, 3]"),
    ({"data": [*PIXELS[:5], 256]}, "inputs[0].data", "whole numbers from 0 to 255"),
    ({"data": [*PIXELS[:5], 0.5]}, "inputs[0].data", "whole numbers from 0 to 255"),
    ({"data": PIXELS, "datatype": "FP32"}, "inputs[0].data", "from 0 to 1"),
    ({"data": [*PIXELS[:5], "255"]}, "inputs[0].data[5]", "number"),
    ({"data": [*PIXELS[:5], [255]]}, "inputs[0].data", "mixes lists and numbers"),
    ({"data": []}, "inputs[0].data", "at least 1"),
]


@pytest.mark.parametrize(("change", "field", "words"), BAD, ids=lambda part: str(part)[:40])
def test_a_wrong_tensor_names_the_field(stages: ImageStages, change: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(v2.ProtocolError) as error:
        items_of(stages, asked(**({"data": PIXELS} | change)))
    assert error.value.field == field
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({}, "image"),
        ({"image": [[0, 0, 0], [0, 0, 0]], "images": []}, "images"),
        ({"image": [0, 0]}, "image[0]"),
        ({"image": [[0, 0, 0], [0, 0]]}, "image"),
        ({"image": [[0, 0], [0, 0]]}, "image"),
        ({"images": [[[0, 0, 0], [0, 0, 256]]]}, "images[0]"),
        ({"images": [[[0, 0, 0], [0, 0, 0.5]]]}, "images[0]"),
        ({"text": "a"}, "text"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_classify_request_names_the_field(stages: ImageStages, content: Any, field: str) -> None:
    with pytest.raises(v2.ProtocolError) as error:
        classified_images(stages, tasks.parse_classify_images(json.dumps(content).encode()))
    assert error.value.field == field


def test_who_does_not_know_the_model_reads_texts_and_images() -> None:
    image = v2_kinds.parse_infer(v2_image.infer_request(PIXELS, shape=SHAPE))
    text = v2_kinds.parse_infer(v2.infer_request('"image"'))
    assert isinstance(image, ImageInferRequest) and not isinstance(text, ImageInferRequest)
    assert v2_kinds.parse_infer(image.model_dump_json(exclude_unset=True).encode()) == image
    with pytest.raises(v2.ProtocolError, match=r"inputs\[0\].shape"):
        v2_kinds.parse_infer(v2_image.infer_request(PIXELS[:5], shape=SHAPE))


def test_values_are_what_the_models_folder_says(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"num_channels": 3, "image_size": 1}))
    image = np.array([0, 51, 255], dtype=np.uint8).reshape(1, 3, 1, 1)
    assert ImageFormat.of(tmp_path).values(image).ravel().tolist() == pytest.approx([-1, -0.6, 1])
    said = {"rescale_factor": 1 / 255, "image_mean": [0.0, 0.2, 0.5], "image_std": [1.0, 0.5, 0.25]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    assert ImageFormat.of(tmp_path).values(image).ravel().tolist() == pytest.approx([0, 0, 2], abs=1e-6)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said | {"do_normalize": False}))
    assert ImageFormat.of(tmp_path).values(image).ravel().tolist() == pytest.approx([0, 0.2, 1])
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said | {"image_std": [1.0, 0.5]}))
    with pytest.raises(ValueError, match="image_std .* doesn't fit 3 channels"):
        ImageFormat.of(tmp_path)


def test_workers_are_told_texts_and_images() -> None:
    texts = [[1, 2, 3], [4]]
    assert read_items(write_items(texts)) == texts
    images = np.arange(12, dtype=np.uint8).reshape(2, *SHAPE)
    told = read_items(write_items([images[:1], images[1:]]))
    assert [item.shape for item in told] == [(1, *SHAPE)] * 2  # type: ignore[union-attr]
    assert pixels_of(told) == images.reshape(2, -1).tolist()


def test_few_images_become_different_ones() -> None:
    images = np.zeros((3, *SHAPE), dtype=np.uint8)
    images[2] += 7
    made = different_images(images, 40)
    assert len({image.tobytes() for image in made}) == 40
    assert {image.shape for image in made} == {(1, *SHAPE)}


def test_the_document_shows_an_image_that_is_small() -> None:
    def paths(*shape: int) -> Any:
        return openapi.document(
            task=Task.IMAGE_CLASSIFICATION, model_name="m", model_version="1", server_version="0", grpc_port=0,
            image_shape=shape,
        )["paths"]  # fmt: skip

    def example(found: Any, path: str) -> Any:
        return found[path]["post"]["requestBody"]["content"]["application/json"].get("example")

    infer = "/v2/models/{model}/infer"
    assert example(paths(*SHAPE), infer)["inputs"][0]["shape"] == [1, *SHAPE]
    assert v2.request_of(example(paths(*SHAPE), infer), ImageInferRequest)
    assert example(paths(3, 224, 224), infer) is None and example(paths(-1, -1, -1), "/classify") is None
