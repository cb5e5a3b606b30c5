"""Variants of small language models: what is cut, what is stored, and that plain transformers understands it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from cycle_server.engine.model import read_weights
from cycle_trainer import compress
from cycle_trainer.compress.masks import Masks
from cycle_trainer.families import causal
from cycle_trainer.families.units import matrix
from cycle_trainer.files import digest_of
from cycle_trainer.tasks.language_modeling import LanguageModeling, padded
from cycle_wire.variant import LayerShape, VariantManifest
from tests.images.trainer.tiny import Workplace, keep_as_trained
from tests.images.trainer.tiny_causal import INT8, make_causal, write_causal_model

VARIANTS: list[dict[str, Any]] = [
    {"name": "fp32"},
    {"name": "bf16", "precision": "BFloat16"},
    {"name": "int8", "quantization": INT8},
    {"name": "int8-weights", "quantization": {**INT8, "scheme": "Asymmetric", "activations": "None"}},
    {"name": "int4", "quantization": {"bits": 4, "granularity": "PerGroup", "activations": "None"}},
    {"name": "pruned", "pruning": {"structure": "Structured", "sparsity": "0.5", "recoverySteps": 20}},
    {"name": "masked", "pruning": {"structure": "Unstructured", "sparsity": "0.4", "recoverySteps": 5}},
]
LINEARS = {"llama": 14, "gpt2": 8}


def prepared(workplace: Workplace, family: str) -> Workplace:
    """The workplace with a 'trained' model: random weights serve to show what becomes of them."""
    make_causal(workplace, family=family, weights=True)
    task = LanguageModeling(workplace.write_config())
    keep_as_trained(workplace, task=task, model=task.pretrained(), variants=VARIANTS)
    return workplace


def folder_of(workplace: Workplace, name: str) -> Path:
    return workplace.output / str(workplace.spec["modelDigest"]).replace(":", "-") / "variants" / name


def restored(folder: Path) -> PreTrainedModel:
    """The variant as floats in a plain model: integers by the manifest, as cycle_wire.variant says."""
    manifest = VariantManifest.model_validate_json((folder / "manifest.json").read_text())
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    weights = read_weights(folder)
    modules = dict(model.named_modules())
    for name in manifest.quantized_layers:
        parts = [weights.pop(f"{name}.{part}", None) for part in ("weight", "weight_scale", "weight_zero_point")]
        with torch.no_grad():
            matrix(modules[name]).copy_(floats_of(*parts, group_size=64))
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert unexpected == []
    assert set(missing) <= {*(f"{name}.weight" for name in manifest.quantized_layers), "lm_head.weight"}
    return model.eval()


def floats_of(integers: Tensor, scale: Tensor, zero_point: Tensor | None, *, group_size: int) -> Tensor:
    if integers.dtype is torch.uint8:  # two in a byte
        integers = torch.stack([integers % 16, integers // 16], dim=2).flatten(1).char() - 8
    by_weight = [
        part.repeat_interleave(group_size, dim=1)[:, : integers.shape[1]] if part.ndim == 2 else part.unsqueeze(1)
        for part in (scale, torch.zeros_like(scale) if zero_point is None else zero_point)
    ]
    return (integers - by_weight[1]) * by_weight[0]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_variant_is_what_its_manifest_says(workplace: Workplace, family: str) -> None:
    place = prepared(workplace, family)
    compress.run(place.write_config())
    baselines = {entry.name: entry.metrics for entry in place.operator.messages("Baselines")[0].baselines}
    assert list(baselines) == ["unigram", "bigram"]
    assert [metric.name for metric in baselines["bigram"]] == ["tokenAccuracy", "perplexity"]
    manifests = {m.variant.name: m for m in place.operator.messages("Variants")[0].manifests}
    assert list(manifests) == [variant["name"] for variant in VARIANTS]
    for name, manifest in manifests.items():
        folder = folder_of(place, name)
        assert digest_of(folder / "model.safetensors") == manifest.weights_digest
        assert manifest.task == "LanguageModeling" and manifest.labels == []
        assert {"tokenizer.json", "chat_template.jinja", "generation_config.json"} <= {p.name for p in folder.iterdir()}
        model = restored(folder)
        kept = sum(int(matrix(linear).count_nonzero()) for _, linear in causal.linears(model))
        whole = sum(linear.weight.numel() for _, linear in causal.linears(restored(folder_of(place, "fp32"))))
        # Rounding to integers makes a few more zeros, which nobody asked for; of 15 values one is 0.
        more = 0.15 if name == "int4" else 0.02
        assert manifest.sparsity - 0.02 < 1 - kept / whole < manifest.sparsity + more
    assert len(manifests["int8"].quantized_layers) == LINEARS[family] and manifests["int8"].sparsity == 0
    assert {t.dtype for t in read_weights(folder_of(place, "bf16")).values()} == {torch.bfloat16}
    assert manifests["bf16"].size_bytes < 0.6 * manifests["fp32"].size_bytes
    assert manifests["int4"].size_bytes < manifests["int8"].size_bytes < 0.6 * manifests["fp32"].size_bytes
    assert manifests["masked"].sparsity == pytest.approx(0.4, abs=0.01)
    pruned = manifests["pruned"]
    assert pruned.recovery_steps == 20 and pruned.parameters < manifests["fp32"].parameters
    if family == "llama":
        assert pruned.layers == [LayerShape(heads=2, intermediate_size=32)] * 2
        assert pruned.sparsity == pytest.approx(0.5)
    else:  # its heads stay
        assert pruned.layers == [LayerShape(heads=4, intermediate_size=64)] * 2
        assert pruned.sparsity == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_variants_answer_nearly_as_the_model(workplace: Workplace, family: str) -> None:
    place = prepared(workplace, family)
    place.spec["variants"] = VARIANTS[:5]
    config = place.write_config()
    compress.run(config)
    batch = padded(LanguageModeling(config).evaluation[:8])
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(place.folder / "model")(**batch.inputs).logits.softmax(dim=-1)
        for name, tolerance in {"fp32": 1e-6, "bf16": 1e-3, "int8": 1e-3, "int8-weights": 1e-3, "int4": 1e-2}.items():
            answers = restored(folder_of(place, name))(**batch.inputs).logits.softmax(dim=-1)
            assert (answers - expected).abs().max() < tolerance, name


def test_cutting_what_contributes_nothing_changes_no_answer(tmp_path: Path) -> None:
    """The second of two groups of heads and every other neuron give zero; the plain smaller model says the same."""
    write_causal_model(tmp_path / "m", weights=True)
    ids = torch.randint(4, 28, (3, 9))
    model = causal.load(tmp_path / "m")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[:, 16:] = 0
            layer.mlp.down_proj.weight[:, ::2] = 0
        before = model(ids).logits
        causal.prune(model, sparsity=0.5)
        model.save_pretrained(tmp_path / "smaller")
        after = AutoModelForCausalLM.from_pretrained(tmp_path / "smaller")(ids).logits
    assert [(shape.heads, shape.intermediate_size) for shape in causal.shapes(model)] == [(2, 32)] * 2
    assert (model.config.num_key_value_heads, model.config.head_dim) == (1, 8)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_masks_stay_through_training_steps(tmp_path: Path) -> None:
    write_causal_model(tmp_path / "m", family="gpt2", weights=True)
    model = causal.load(tmp_path / "m")
    masks = Masks(causal.linears(model), sparsity=0.25)
    _, linear = next(causal.linears(model))
    with torch.no_grad():
        linear.weight.add_(1.0)
    masks.apply()
    assert int((linear.weight == 0).sum()) == round(0.25 * linear.weight.numel())
