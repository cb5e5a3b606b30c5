"""Image classifiers on real scans of digits: training, variants, and what the serving engine makes of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageClassification, PreTrainedModel

from cycle_server.engine.image import ImageEngine
from cycle_server.engine.model import read_weights
from cycle_trainer import compress
from cycle_trainer.baselines.pixels import shrunk
from cycle_trainer.collective import Alone
from cycle_trainer.data import LabelledImage
from cycle_trainer.failures import BadInputError
from cycle_trainer.families import vision
from cycle_trainer.files import digest_of
from cycle_trainer.loop import steps
from cycle_trainer.optimizer import make_optimizer
from cycle_trainer.plan import StepPlan
from cycle_trainer.tasks import task_of
from cycle_trainer.tasks.image_classification import ImageClassification
from cycle_wire.variant import LayerShape, VariantManifest
from examples.demo_data.digits import write_digits
from tests.images.trainer.conftest import Ranks
from tests.images.trainer.tiny import Workplace, keep_as_trained, write_rows

DIGITS = [str(digit) for digit in range(10)]
INT8 = {"bits": 8, "scheme": "Symmetric", "granularity": "PerChannel", "activations": "Dynamic"}
VARIANTS: list[dict[str, Any]] = [
    {"name": "fp32"},
    {"name": "bf16", "precision": "BFloat16"},
    {"name": "int8", "quantization": INT8},
    {"name": "int8-weights", "quantization": {**INT8, "scheme": "Asymmetric", "activations": "None"}},
    {"name": "pruned", "pruning": {"structure": "Structured", "sparsity": "0.5", "recoverySteps": 30}},
    {"name": "masked-int8", "pruning": {"structure": "Unstructured", "sparsity": "0.4"}, "quantization": INT8},
]
STEPS = {"vit": 240, "convnext": 120}  # a transformer has to learn first that pixels have neighbours


@pytest.fixture
def digits(workplace: Workplace) -> Workplace:
    return made_of_digits(workplace, family="vit")


def made_of_digits(workplace: Workplace, *, family: str) -> Workplace:
    folder = workplace.folder
    write_digits(models=folder / "models", data=folder / "data")
    workplace.spec |= {
        "task": "ImageClassification",
        "modelPath": str(folder / "models" / f"digits-{family}"),
        "trainPath": str(folder / "data" / "digits" / "train.jsonl"),
        "evaluationPath": str(folder / "data" / "digits" / "evaluation.jsonl"),
        "fields": {"label": "digit"},
        "checkpoint": {"everySteps": 1000, "keep": 1},
    }
    workplace.spec["training"] |= {
        "maximumSteps": STEPS[family], "globalBatchSize": 64, "microBatchSize": 32, "learningRate": "3e-3",
    }  # fmt: skip
    return workplace


def right(logits: torch.Tensor, task: ImageClassification) -> float:
    """Share of the evaluation rows."""
    return float((logits.argmax(dim=1) == task.encode(task.evaluation).targets).float().mean())


def answers(model: PreTrainedModel, task: ImageClassification) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(**task.encode(task.evaluation).inputs).logits
    return logits


def test_two_ranks_learn_real_digits(workplace: Workplace, ranks: Ranks) -> None:
    digits = made_of_digits(workplace, family="convnext")
    done = ranks()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training starts from random weights" in done.stdout + done.stderr
    (trained,) = digits.operator.messages("Trained")
    assert trained.from_random_weights and trained.labels == 10
    task = ImageClassification(digits.write_config())
    folder = digits.output / trained.digest.replace(":", "-")
    assert json.loads((folder / "labels.json").read_text()) == DIGITS
    plain = AutoModelForImageClassification.from_pretrained(folder).eval()
    assert [plain.config.id2label[place] for place in range(10)] == DIGITS
    torch.testing.assert_close(answers(plain, task), answers(task.load(folder), task))
    baselines = {entry.name: entry.metrics[0].value for entry in task.baselines(range(len(task.training)))}
    assert baselines["majority"] < 0.2 < 0.8 < baselines["nearestCentroid"] < baselines["pixels"]
    assert right(answers(plain, task), task) > baselines["nearestCentroid"]


@pytest.mark.parametrize("family", STEPS)
def test_every_variant_is_what_its_manifest_says_and_serves(workplace: Workplace, family: str) -> None:
    place = made_of_digits(workplace, family=family)
    config = place.write_config()
    task = ImageClassification(config)
    model = trained_alone(task, place)
    keep_as_trained(place, task=task, model=model, variants=VARIANTS)
    compress.run(place.write_config())
    baselines = [entry.name for entry in place.operator.messages("Baselines")[0].baselines]
    assert baselines == ["majority", "nearestCentroid", "pixels"]
    manifests = {m.variant.name: m for m in place.operator.messages("Variants")[0].manifests}
    check_manifests(place, manifests, family)
    expected = answers(model, task)
    assert right(expected, task) > 0.8
    images = np.concatenate([row.image for row in task.evaluation])
    for name, tolerance in {"fp32": 1e-4, "bf16": 0.1, "int8": 0.1, "int8-weights": 0.1}.items():
        served = served_by(folder_of(place, name), images)
        assert (served.softmax(dim=1) - expected.softmax(dim=1)).abs().max() < tolerance, name
        assert right(served, task) > right(expected, task) - 0.02, name
    for name in ("pruned", "masked-int8"):
        assert right(served_by(folder_of(place, name), images), task) > 0.8, name


def trained_alone(task: ImageClassification, place: Workplace) -> PreTrainedModel:
    training = place.write_config().training
    torch.manual_seed(training.seed)
    model = task.pretrained()
    optimizer = make_optimizer(model, head=task.head(model), training=training)
    plan = StepPlan.of(training, rows=len(task.lengths))
    taken = list(steps(model=model, task=task, optimizer=optimizer, plan=plan, training=training, collective=Alone()))
    assert taken[-1].loss < 0.5 * taken[0].loss
    return model.eval()


def folder_of(workplace: Workplace, name: str) -> Path:
    return workplace.output / str(workplace.spec["modelDigest"]).replace(":", "-") / "variants" / name


def served_by(folder: Path, images: np.ndarray) -> torch.Tensor:
    """Logits."""
    try:
        engine = ImageEngine(folder, threads=1)
        return torch.from_numpy(engine.compute(engine.pre(images)))
    finally:
        torch.set_grad_enabled(True)  # a process that serves has no gradients, this one trains on


def check_manifests(place: Workplace, manifests: dict[str, VariantManifest], family: str) -> None:
    assert list(manifests) == [variant["name"] for variant in VARIANTS]
    for name, manifest in manifests.items():
        folder = folder_of(place, name)
        assert digest_of(folder / "model.safetensors") == manifest.weights_digest
        assert manifest.labels == DIGITS and manifest.task == "ImageClassification"
        assert {"config.json", "preprocessor_config.json", "labels.json"} <= {path.name for path in folder.iterdir()}
    assert {tensor.dtype for tensor in read_weights(folder_of(place, "bf16")).values()} == {torch.bfloat16}
    assert manifests["bf16"].size_bytes < 0.6 * manifests["fp32"].size_bytes
    assert len(manifests["int8"].quantized_layers) == {"vit": 24, "convnext": 8}[family]
    assert manifests["masked-int8"].sparsity == pytest.approx(0.4, abs=0.01)
    pruned = manifests["pruned"]
    assert pruned.sparsity == pytest.approx(0.5) and pruned.parameters < manifests["fp32"].parameters
    assert (
        pruned.layers
        == {
            "vit": [LayerShape(heads=2, intermediate_size=64)] * 4,
            "convnext": [LayerShape(heads=0, intermediate_size=width) for width in (64, 64, 128, 128)],
        }[family]
    )


@pytest.mark.parametrize("family", STEPS)
def test_cutting_what_contributes_nothing_changes_no_answer(workplace: Workplace, family: str) -> None:
    task = ImageClassification(made_of_digits(workplace, family=family).write_config())
    model = task.pretrained().eval()
    with torch.no_grad():
        if family == "vit":
            for layer in model.vit.layers:
                layer.attention.o_proj.weight[:, 16:32] = 0  # head 1 of 4
                layer.mlp.fc1.weight[::4] = 0
                layer.mlp.fc1.bias[::4] = 0
        else:
            for layer in vision.convnext_layers(model):
                layer.pwconv1.weight[::4] = 0
                layer.pwconv1.bias[::4] = 0
        before = answers(model, task)
        vision.prune(model, sparsity=0.25)
    torch.testing.assert_close(answers(model, task), before, rtol=1e-4, atol=1e-5)


def test_a_published_model_gives_its_body_and_gets_a_new_head(digits: Workplace) -> None:
    folder = Path(digits.spec["modelPath"])
    config = vision.read_config(folder)
    config.id2label = {0: "cat", 1: "dog"}
    torch.manual_seed(1)
    published = vision.random_model(config)
    published.save_pretrained(folder)
    task = ImageClassification(digits.write_config())
    assert not task.starts_from_random_weights
    model = task.pretrained()
    assert len(list(task.head(model))) == 2 and model.classifier.out_features == 10
    for name, tensor in published.vit.state_dict().items():
        torch.testing.assert_close(model.vit.state_dict()[name], tensor)


def test_the_baselines_see_means_of_blocks() -> None:
    image = np.arange(2 * 33 * 32, dtype=np.int64).reshape(1, 2, 33, 32) % 256
    (seen,) = shrunk([LabelledImage(image=image.astype(np.uint8), label="a")])
    assert seen.shape == (2 * 11 * 16,)
    assert seen[0] == pytest.approx(image[0, 0, :3, :2].mean())


def _change(workplace: Workplace, **changes: object) -> None:
    path = Path(workplace.spec["modelPath"]) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _first_row(workplace: Workplace, **changes: object) -> None:
    path = Path(workplace.spec["trainPath"])
    first, *rest = [json.loads(line) for line in path.read_text().splitlines()]
    write_rows(path, [{**first, **changes}, *rest])


def _one_label(workplace: Workplace) -> None:
    path = Path(workplace.spec["trainPath"])
    write_rows(path, [row for line in path.read_text().splitlines() if (row := json.loads(line))["digit"] == 3])


BAD_INPUTS: dict[str, tuple[Callable[[Workplace], object], str, str, str]] = {
    "size": (
        lambda w: _first_row(w, image=[[0] * 8] * 7),
        "BadData", "spec.data.fields.image", "line 1: field 'image' is [1, 7, 8], the model takes [1, 8, 8]",
    ),
    "ragged": (
        lambda w: _first_row(w, image=[[0] * 8] * 7 + [[0] * 7]),
        "BadData", "spec.data.fields.image", "rows differ in length",
    ),
    "range": (
        lambda w: _first_row(w, image=[[256] * 8] * 8),
        "BadData", "spec.data.fields.image", "whole numbers from 0 to 255",
    ),
    "field": (
        lambda w: w.spec.update(fields={"label": "digit", "image": "scan"}),
        "BadData", "spec.data.fields.image", "there is no field 'scan'; the line has: digit, image",
    ),
    "label": (_one_label, "BadData", "spec.data.fields.label", "one label only, '3'"),
    "family": (lambda w: _change(w, model_type="resnet"), "ModelUnsupported", "spec.model.uri", "none of convnext"),
    "shape": (lambda w: _change(w, image_size="large"), "ModelUnreadable", "spec.model.uri", "image_size"),
    "model": (lambda w: w.spec.update(modelPath="/nowhere"), "ModelNotFound", "spec.model.uri", "no folder /nowhere"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_INPUTS)
def test_bad_input_names_the_field(digits: Workplace, what: str) -> None:
    spoil, reason, field, words = BAD_INPUTS[what]
    spoil(digits)
    with pytest.raises(BadInputError) as caught:
        task_of(digits.write_config())
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert words in caught.value.message
