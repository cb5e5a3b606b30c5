"""Baselines and variants of a small trained model, and the serving engine that must understand them."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from cycle_server.engine.grouped import by_input
from cycle_server.engine.load import load_variant
from cycle_server.engine.model import (
    EncoderClassifier,
    encoder_layers,
    layer_shapes,
    load,
    load_pretrained,
    read_weights,
    write_weights,
)
from cycle_trainer import compress
from cycle_trainer.compress.masks import Masks
from cycle_trainer.compress.quantization import quantize
from cycle_trainer.failures import BadInputError
from cycle_trainer.families import encoder
from cycle_trainer.files import digest_of
from cycle_trainer.tasks.text_classification import TextClassification
from cycle_wire.parts import Activations, Granularity, Quantization, Scheme
from cycle_wire.variant import VariantManifest
from tests.images.trainer.tiny import LABELS, Workplace, keep_as_trained, write_model

INT8 = {"bits": 8, "scheme": "Symmetric", "granularity": "PerChannel", "activations": "Dynamic"}
INT4 = {"bits": 4, "scheme": "Asymmetric", "granularity": "PerGroup", "groupSize": 32, "activations": "None"}
VARIANTS: list[dict[str, Any]] = [
    {"name": "fp32"},
    {"name": "bf16", "precision": "BFloat16"},
    {"name": "int8", "quantization": INT8},
    {"name": "int8-tensor", "quantization": {**INT8, "scheme": "Asymmetric", "granularity": "PerTensor"}},
    {
        "name": "pruned-int8",
        "pruning": {"structure": "Structured", "sparsity": "0.5", "recoverySteps": 30},
        "quantization": {**INT8, "scheme": "Asymmetric"},
    },
    {"name": "masked", "pruning": {"structure": "Unstructured", "sparsity": "0.4", "recoverySteps": 5}},
    {"name": "int4", "quantization": INT4},
    {"name": "int4-channel", "quantization": {"bits": 4}},
]


@pytest.fixture
def trained(workplace: Workplace) -> Workplace:
    """The workplace with a 'trained' model: the pretrained one with its head set, which learns the data well."""
    workplace.spec["training"] |= {"learningRate": "2e-3"}
    config = workplace.write_config()
    task = TextClassification(config)
    torch.manual_seed(0)
    model = task.pretrained()
    with torch.no_grad():
        task.prepare(model, range(200))
    keep_as_trained(workplace, task=task, model=model, variants=VARIANTS)
    return workplace


def folder_of(workplace: Workplace, name: str) -> Path:
    return workplace.output / str(workplace.spec["modelDigest"]).replace(":", "-") / "variants" / name


def test_every_variant_is_what_its_manifest_says(trained: Workplace) -> None:
    compress.run(trained.write_config())
    baselines = {entry.name: entry.metrics for entry in trained.operator.messages("Baselines")[0].baselines}
    majority, words = baselines["majority"], baselines["bagOfWords"]
    assert [value.name for value in majority] == ["accuracy", "f1Macro"]
    assert majority[0].value == pytest.approx(0.25) and words[0].value > 0.95 and majority[0].rows == 64
    manifests = {m.variant.name: m for m in trained.operator.messages("Variants")[0].manifests}
    assert list(manifests) == [variant["name"] for variant in VARIANTS]
    source = load(folder_of(trained, "x").parents[1], classes=len(LABELS))
    for name, manifest in manifests.items():
        folder = folder_of(trained, name)
        assert VariantManifest.model_validate_json((folder / "manifest.json").read_text()) == manifest
        assert digest_of(folder / "model.safetensors") == manifest.weights_digest
        assert (folder / "model.safetensors").stat().st_size == manifest.size_bytes
        assert manifest.model_digest == trained.spec["modelDigest"] and manifest.labels == LABELS
    assert read_weights(folder_of(trained, "fp32")).keys() == source.state_dict().keys()
    assert {t.dtype for t in read_weights(folder_of(trained, "bf16")).values()} == {torch.bfloat16}
    assert manifests["bf16"].size_bytes < 0.6 * manifests["fp32"].size_bytes
    stored = {name: read_weights(folder_of(trained, name)) for name in ("int8", "int4", "int4-channel")}
    layer = f"{manifests['int8'].quantized_layers[0]}.weight"
    (outputs, inputs), eight = stored["int8"][layer].shape, stored["int8"][layer].numel()
    assert {stored[name][layer].numel() for name in ("int4", "int4-channel")} == {eight // 2}
    assert stored["int4"][f"{layer}_scale"].shape == (outputs, -(-inputs // 32))
    assert stored["int4-channel"][f"{layer}_scale"].shape == (outputs,)
    assert manifests["int8"].sparsity == 0 and len(manifests["int8"].quantized_layers) == 12
    pruned = manifests["pruned-int8"]
    assert [(shape.heads, shape.intermediate_size) for shape in pruned.layers] == [(2, 32)] * 2
    assert pruned.sparsity == pytest.approx(0.5) and pruned.recovery_steps == 30
    assert pruned.parameters < manifests["fp32"].parameters
    assert manifests["masked"].sparsity == pytest.approx(0.4, abs=0.01) and not manifests["masked"].layers
    assert not list(trained.output.rglob(".part-*"))


def test_the_serving_engine_answers_as_the_trained_model_does(trained: Workplace) -> None:
    config = trained.write_config()
    compress.run(config)
    task = TextClassification(config)
    rows = task.evaluation
    model = load(folder_of(trained, "x").parents[1], classes=len(LABELS))
    batch = task.encode(rows)
    with torch.no_grad():
        expected = model(**batch.inputs).softmax(dim=1)
    tokens = [ids[: int(mask.sum())].tolist() for ids, mask in zip(*batch.inputs.values(), strict=True)]
    for name, tolerance in {"fp32": 1e-4, "bf16": 0.05, "int8": 0.05, "int8-tensor": 0.1}.items():
        loaded = load_variant(folder_of(trained, name))
        with torch.inference_mode():
            answers = loaded.encoder.logits(tokens).float().softmax(dim=1)
        assert (answers - expected).abs().max() < tolerance, name
    for name in ("pruned-int8", "masked", "int4", "int4-channel"):
        loaded = load_variant(folder_of(trained, name))
        with torch.inference_mode():
            right = loaded.encoder.logits(tokens).argmax(dim=1) == batch.targets
        assert float(right.float().mean()) > 0.8, name


def test_a_second_run_keeps_what_is_whole_and_remakes_the_rest(trained: Workplace) -> None:
    trained.spec["variants"] = VARIANTS[:3]
    compress.run(trained.write_config())
    before = {n: (folder_of(trained, n) / "model.safetensors").stat().st_ino for n in ("fp32", "bf16", "int8")}
    weights = folder_of(trained, "bf16") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    trained.spec["variants"] = [
        VARIANTS[0],
        VARIANTS[1],
        {"name": "int8", "quantization": {**INT8, "scheme": "Asymmetric"}},
    ]
    compress.run(trained.write_config())
    after = {n: (folder_of(trained, n) / "model.safetensors").stat().st_ino for n in before}
    assert after["fp32"] == before["fp32"]
    assert after["bf16"] != before["bf16"] and load_variant(folder_of(trained, "bf16"))
    assert load_variant(folder_of(trained, "int8")).manifest.variant.quantization == Quantization(
        scheme=Scheme.ASYMMETRIC
    )


def test_a_trained_model_that_was_changed_is_refused(trained: Workplace) -> None:
    weights = folder_of(trained, "x").parents[1] / "model.safetensors"
    changed = {name: tensor + 1 for name, tensor in read_weights(weights.parent).items()}
    write_weights(changed, weights)
    with pytest.raises(BadInputError, match="ModelCorrupt"):
        compress.run(trained.write_config())
    assert trained.operator.messages("Failure")[0].reason == "ModelCorrupt"


def test_an_unknown_metric_is_bad_input(trained: Workplace) -> None:
    trained.spec["evaluation"] = {"metrics": ["accuracy", "bleu"]}
    with pytest.raises(BadInputError, match="no metric bleu"):
        compress.run(trained.write_config())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("scheme", list(Scheme))
def test_quantized_weights_are_within_half_a_step(
    scheme: Scheme, granularity: Granularity, bits: Literal[4, 8]
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(12, 40) * torch.logspace(-3, 1, 12).unsqueeze(1) + 0.01
    weight[3] = 0
    weight[:, :5] = 0
    spec = Quantization(bits=bits, scheme=scheme, granularity=granularity, group_size=32, activations=Activations.NONE)
    quantized = quantize(weight, quantization=spec)
    assert quantized.integers.dtype is torch.int8
    assert int(quantized.integers.abs().max()) <= 2 ** (bits - 1)
    assert quantized.scale.shape == {"PerTensor": (1,), "PerChannel": (12,), "PerGroup": (12, 2)}[granularity]
    assert (quantized.zero_point is None) == (scheme is Scheme.SYMMETRIC)
    restored = quantized.dequantize()
    # Rounding the zero point costs up to another half step at the ends of the range.
    slack = 0.501 if scheme is Scheme.SYMMETRIC else 1.001
    steps = by_input(quantized.scale, inputs=40, group_size=32)
    assert ((restored - weight).abs() <= slack * steps).all()
    assert (restored[:, :5] == 0).all() and (restored[3] == 0).all()


def tiny_model(folder: Path) -> EncoderClassifier:
    write_model(folder)
    model = load_pretrained(folder, classes=3)
    model.eval()
    return model


def test_structured_pruning_is_the_same_as_zeroing(tmp_path: Path) -> None:
    """Heads and neurons that contribute nothing are the ones cut, and cutting them changes no answer."""
    model = tiny_model(tmp_path / "m")
    with torch.no_grad():
        for layer in encoder_layers(model):
            layer.attention.output.dense.weight[:, 8:16] = 0  # head 1 of 4
            layer.intermediate.dense.weight[::4] = 0
            layer.intermediate.dense.bias[::4] = 0
        ids, mask = torch.randint(4, 30, (3, 9)), torch.ones(3, 9, dtype=torch.long)
        before = model(ids, mask)
        encoder.prune(model, sparsity=0.25)
        after = model(ids, mask)
    assert [(shape.heads, shape.intermediate_size) for shape in layer_shapes(model)] == [(3, 48)] * 2
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_masks_hold_the_least_weights_at_zero(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "m")
    _, linear = next(encoder.linears(model))
    magnitude = linear.weight.detach().abs().flatten()
    masks = Masks(encoder.linears(model), sparsity=0.25)
    with torch.no_grad():
        linear.weight.add_(1.0)
    masks.apply()
    zero = (linear.weight == 0).flatten()
    assert int(zero.sum()) == round(0.25 * len(magnitude))
    assert magnitude[zero].max() <= magnitude[~zero].min()


def test_manifests_are_plain_json(trained: Workplace) -> None:
    trained.spec["variants"] = VARIANTS[4:5]
    compress.run(trained.write_config())
    manifest = json.loads((folder_of(trained, "pruned-int8") / "manifest.json").read_text())
    assert manifest["variant"]["pruning"]["sparsity"] == "0.5"
    assert manifest["layers"] == [{"heads": 2, "intermediateSize": 32}] * 2
