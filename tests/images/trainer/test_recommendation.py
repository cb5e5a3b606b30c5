"""A recommender on real sets, what Python files import: training, and variants that are what they say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import BertModel

from cycle_server.engine.model import EncoderClassifier, load, read_weights
from cycle_server.ranking import Catalogue
from cycle_trainer import compress
from cycle_trainer.baselines.items import item_baselines, quality
from cycle_trainer.failures import BadInputError
from cycle_trainer.files import digest_of
from cycle_trainer.tasks import task_of
from cycle_trainer.tasks.recommendation import Recommendation
from cycle_wire.metrics import METRICS
from cycle_wire.parts import Task
from cycle_wire.variant import LayerShape, VariantManifest
from examples.demo_data.imports import write_imports
from tests.images.trainer.conftest import Ranks
from tests.images.trainer.tiny import Workplace, keep_as_trained, write_rows

INT8 = {"bits": 8, "scheme": "Symmetric", "granularity": "PerChannel", "activations": "Dynamic"}
VARIANTS: list[dict[str, Any]] = [
    {"name": "fp32"},
    {"name": "bf16", "precision": "BFloat16"},
    {"name": "int8", "quantization": {**INT8, "scheme": "Asymmetric"}},
    {"name": "pruned", "pruning": {"structure": "Structured", "sparsity": "0.5", "recoverySteps": 30}},
]
METRIC_NAMES = METRICS[Task.RECOMMENDATION]


@pytest.fixture
def imports(workplace: Workplace) -> Workplace:
    """The example's real sets."""
    folder = workplace.folder
    write_imports(models=folder / "models", data=folder / "data")
    workplace.spec |= {
        "task": "Recommendation",
        "modelPath": str(folder / "models" / "imports-bert"),
        "trainPath": str(folder / "data" / "imports" / "train.jsonl"),
        "evaluationPath": str(folder / "data" / "imports" / "evaluation.jsonl"),
        "checkpoint": {"everySteps": 1000, "keep": 1},
        "variants": VARIANTS,
    }
    workplace.spec["training"] |= {
        "maximumSteps": 240, "globalBatchSize": 128, "microBatchSize": 32, "learningRate": "3e-3",
        "maximumSequenceLength": 32,
    }  # fmt: skip
    return workplace


@pytest.fixture
def few(workplace: Workplace) -> Workplace:
    """Some sets of two kinds, for what needs no learning."""
    folder = workplace.folder
    (folder / "bert").mkdir()
    config = {"model_type": "bert", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
              "num_attention_heads": 4, "max_position_embeddings": 16, "type_vocab_size": 1}  # fmt: skip
    (folder / "bert" / "config.json").write_text(json.dumps(config))
    write_rows(folder / "train.jsonl", [{"items": ["tea", "cup", 7]}, {"items": ["nail", "saw"]}, {"items": ["tea"]}])
    write_rows(folder / "evaluation.jsonl", [{"items": ["cup", "new"], "heldOut": ["tea", "unknown"]}])
    workplace.spec |= {"task": "Recommendation", "modelPath": str(folder / "bert")}
    return workplace


def reached(model: EncoderClassifier, task: Recommendation) -> dict[str, float]:
    """Each metric of a model as torch computes it."""

    def scores(given: list[int]) -> NDArray[np.float64]:
        with torch.no_grad():
            answer: NDArray[np.float64] = model(**task.encode([given]))[0].double().numpy()
        return answer

    return {value.name: value.value for value in quality(task.questions, scores, metrics=METRIC_NAMES)}


def test_two_ranks_learn_real_sets_and_every_variant_is_what_its_manifest_says(
    imports: Workplace, ranks: Ranks
) -> None:
    done = ranks()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training starts from random weights" in done.stdout + done.stderr
    (world,) = imports.operator.messages("World")
    assert world.size == 2
    (trained,) = imports.operator.messages("Trained")
    assert trained.from_random_weights and trained.labels == 0
    imports.spec["modelDigest"] = trained.digest
    config = imports.write_config()
    task = Recommendation(config)
    compress.run(config)
    baselines = {
        entry.name: {metric.name: metric.value for metric in entry.metrics}
        for entry in imports.operator.messages("Baselines")[0].baselines
    }
    assert list(baselines) == ["mostPopular", "coOccurrence"]
    folder = imports.output / trained.digest.replace(":", "-")
    full = reached(task.load(folder), task)
    for name in METRIC_NAMES:
        assert full[name] > 1.5 * baselines["mostPopular"][name]
    manifests = {m.variant.name: m for m in imports.operator.messages("Variants")[0].manifests}
    assert list(manifests) == [variant["name"] for variant in VARIANTS]
    for name, manifest in manifests.items():
        check_manifest(folder / "variants" / name, manifest, task)
        kept = reached(dequantized(folder / "variants" / name, manifest), task)
        floor = baselines["mostPopular"] if name == "pruned" else {metric: full[metric] - 0.01 for metric in full}
        assert all(kept[metric] > floor[metric] for metric in METRIC_NAMES), name
    check_sizes(folder / "variants", manifests)


def check_manifest(folder: Path, manifest: VariantManifest, task: Recommendation) -> None:
    assert VariantManifest.model_validate_json((folder / "manifest.json").read_text()) == manifest
    assert digest_of(folder / "model.safetensors") == manifest.weights_digest
    assert (folder / "model.safetensors").stat().st_size == manifest.size_bytes
    assert (manifest.task, manifest.labels) == (Task.RECOMMENDATION, [])
    assert Catalogue.read(folder).items == task.catalogue.items
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == len(task.catalogue) + 1


def check_sizes(variants: Path, manifests: dict[str, VariantManifest]) -> None:
    assert {tensor.dtype for tensor in read_weights(variants / "bf16").values()} == {torch.bfloat16}
    assert manifests["bf16"].size_bytes < 0.6 * manifests["fp32"].size_bytes
    assert manifests["int8"].sparsity == 0 and len(manifests["int8"].quantized_layers) == 12
    integers = read_weights(variants / "int8")
    assert all(integers[f"{name}.weight"].dtype == torch.int8 for name in manifests["int8"].quantized_layers)
    pruned = manifests["pruned"]
    assert pruned.layers == [LayerShape(heads=2, intermediate_size=64)] * 2 and pruned.recovery_steps == 30
    assert pruned.sparsity == pytest.approx(0.5) and pruned.parameters < manifests["fp32"].parameters
    for name in manifests:  # a set has no order
        assert not read_weights(variants / name)["encoder.embeddings.position_embeddings.weight"].any()


def dequantized(folder: Path, manifest: VariantManifest) -> EncoderClassifier:
    """The variant in float32, its integers by the formula of its format."""
    weights = read_weights(folder)
    for name in manifest.quantized_layers:
        integers, scale = weights[f"{name}.weight"].float(), weights.pop(f"{name}.weight_scale")
        zero_point = weights.pop(f"{name}.weight_zero_point").float()
        weights[f"{name}.weight"] = (integers - zero_point.unsqueeze(1)) * scale.unsqueeze(1)
    model = load(folder.parents[1], classes=len(Catalogue.read(folder)))
    if manifest.layers:
        model = load(folder, classes=len(Catalogue.read(folder)), layers=manifest.layers)
    model.load_state_dict(weights)
    return model.eval()


def test_a_row_is_one_item_to_be_found_from_the_others(few: Workplace) -> None:
    task = Recommendation(few.write_config())
    assert task.catalogue.items == ["7", "cup", "nail", "saw", "tea"]
    batch = task.batch(range(len(task.lengths)))
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    read = [row[: int(kept.sum())].tolist() for row, kept in zip(ids, mask, strict=True)]
    assert read == [[0, 2, 5], [0, 1, 5], [0, 1, 2], [0, 4], [0, 3], [0]]  # the last: nothing is given
    assert batch.targets.tolist() == [0, 1, 4, 2, 3, 4]
    assert task.questions == [([1], [4], 2)]  # what isn't known is left out of what is given, and is never found


def test_an_answer_depends_on_the_set_alone(few: Workplace) -> None:
    task = Recommendation(few.write_config())
    model = task.pretrained().eval()
    ids = torch.tensor([[0, 2, 5], [0, 5, 2]])
    with torch.no_grad():
        answers = model(input_ids=ids, attention_mask=torch.ones_like(ids))
        padded = model(**task.encode([[1, 4], [0, 1, 2, 3]]))
    torch.testing.assert_close(answers[0], answers[1])
    torch.testing.assert_close(answers[0], padded[0])


def test_baselines_by_hand() -> None:
    sets = [[0, 1], [0, 1], [0, 2], [0, 3], [2, 3], [3]]
    questions = [([2], [3], 1), ([], [0], 1)]
    popular, together = item_baselines(sets, questions, items=4, metrics=METRIC_NAMES)
    # Counts are 4, 2, 2, 3: of 0, 1 and 3 the last comes second, and 0 is first when nothing is given.
    assert [metric.value for metric in popular.metrics] == pytest.approx([1.0, (1 / np.log2(3) + 1) / 2])
    # cos(2, 3) = 1 / sqrt(2 * 3) is above cos(2, 0) = 1 / sqrt(2 * 4).
    assert [metric.value for metric in together.metrics] == pytest.approx([1.0, 1.0])


def _train(workplace: Workplace, *rows: object) -> None:
    (workplace.folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _ask(workplace: Workplace, row: object) -> None:
    (workplace.folder / "evaluation.jsonl").write_text(json.dumps(row) + "\n")


def _configure(workplace: Workplace, **changes: object) -> None:
    path = Path(workplace.spec["modelPath"]) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _weights(workplace: Workplace) -> None:
    BertModel.from_pretrained(workplace.folder / "model").save_pretrained(workplace.spec["modelPath"])


ITEMS, HELD_OUT = "spec.data.fields.items", "spec.data.fields.heldOut"
BAD_INPUTS: dict[str, tuple[Callable[[Workplace], object], str, str, str]] = {
    "text": (lambda w: _train(w, {"items": ["a", "b"]}, {"items": "ab"}), "BadData", ITEMS, "line 2: field 'items'"),
    "nothing": (lambda w: _train(w, {"items": []}), "BadData", ITEMS, "line 1: field 'items' must be a list of items"),
    "fraction": (lambda w: _train(w, {"items": [1.5]}), "BadData", ITEMS, "texts that aren't empty or whole numbers"),
    "truth": (lambda w: _train(w, {"items": [True]}), "BadData", ITEMS, "line 1: field 'items' must be"),
    "field": (lambda w: _train(w, {"had": ["a"]}), "BadData", ITEMS, "no field 'items'; the line has: had"),
    "one": (lambda w: _train(w, {"items": ["a"]}, {"items": ["a"]}), "BadData", ITEMS, "has one item only, 'a'"),
    "empty": (lambda w: _train(w), "BadData", "spec.data.train", "has no rows"),
    "asked": (lambda w: _ask(w, {"items": ["tea"]}), "BadData", HELD_OUT, "line 1: there is no field 'heldOut'"),
    "both": (
        lambda w: _ask(w, {"items": ["tea", "cup"], "heldOut": ["cup"]}),
        "BadData", HELD_OUT, "line 1: 'cup' is in 'items' and in 'heldOut'",
    ),
    "strange": (
        lambda w: _ask(w, {"items": ["tea"], "heldOut": ["x", "y"]}),
        "BadData", HELD_OUT, "none of the 2 items to be found is in the training data",
    ),
    "weights": (_weights, "ModelUnsupported", "spec.model.uri", "starts from its config.json alone"),
    "family": (lambda w: _configure(w, model_type="roberta"), "ModelUnsupported", "spec.model.uri", "isn't bert"),
    "heads": (lambda w: _configure(w, num_attention_heads=5), "ModelUnreadable", "spec.model.uri", "is no model's"),
    "length": (
        lambda w: _configure(w, max_position_embeddings=8),
        "BadSequenceLength", "spec.training.maximumSequenceLength", "takes at most 8 items",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_INPUTS)
def test_bad_input_names_the_field_and_the_line(few: Workplace, what: str) -> None:
    spoil, reason, field, words = BAD_INPUTS[what]
    spoil(few)
    with pytest.raises(BadInputError) as caught:
        task_of(few.write_config()).pretrained()
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert words in caught.value.message


def test_an_unknown_metric_is_bad_input(few: Workplace) -> None:
    few.spec["evaluation"] = {"metrics": ["recallAt10", "accuracy"]}
    task = Recommendation(few.write_config())
    keep_as_trained(few, task=task, model=task.pretrained(), variants=VARIANTS[:1])
    with pytest.raises(BadInputError, match="no metric accuracy; there are recallAt10, ndcgAt10"):
        compress.run(few.write_config())
