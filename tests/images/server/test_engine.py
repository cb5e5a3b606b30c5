"""The packed engine computes what transformers computes, for every kind of variant, whatever shares the batch."""

import json
from pathlib import Path

import pytest
import torch

from cycle_server.engine.load import LoadedVariant, load_variant
from cycle_server.errors import BadVariantError
from cycle_wire.parts import Activations, Granularity, Precision, Pruning, Quantization, Scheme, Variant
from cycle_wire.variant import LayerShape
from tests.images.server.variants import write_variant

PRUNED = [LayerShape(heads=3, intermediate_size=40), LayerShape(heads=2, intermediate_size=72)]
SYMMETRIC = Quantization(scheme=Scheme.SYMMETRIC, granularity=Granularity.PER_CHANNEL)
ASYMMETRIC = Quantization(scheme=Scheme.ASYMMETRIC, granularity=Granularity.PER_CHANNEL)
WEIGHTS_ONLY = Quantization(scheme=Scheme.ASYMMETRIC, activations=Activations.NONE)
FOUR_BITS = Quantization(
    bits=4, scheme=Scheme.ASYMMETRIC, granularity=Granularity.PER_GROUP, group_size=32, activations=Activations.NONE
)
PRUNING = Pruning(sparsity="0.3")
TEXTS = ["the cat runs", "a small dog", "the large blue sky of the tree with a cat on it", "cats", "trees running"]
# Largest change of a probability against transformers in float32 with the same rounded weights.
CASES = {
    "fp32": (Variant(name="fp32"), None, 1e-5),
    "bf16": (Variant(name="bf16", precision=Precision.BFLOAT16), None, 0.03),
    "int8": (Variant(name="int8", quantization=SYMMETRIC), None, 0.02),
    "int8-asymmetric": (Variant(name="int8a", quantization=ASYMMETRIC), None, 0.02),
    "int8-weights": (Variant(name="int8w", quantization=WEIGHTS_ONLY), None, 1e-5),
    "int4": (Variant(name="int4", quantization=FOUR_BITS), None, 1e-5),
    "int4-channel": (Variant(name="int4c", quantization=Quantization(bits=4)), None, 0.02),
    "bf16-int8": (Variant(name="bf16-int8", precision=Precision.BFLOAT16, quantization=SYMMETRIC), None, 0.04),
    "pruned": (Variant(name="pruned", pruning=PRUNING), PRUNED, 1e-5),
    "pruned-int8": (Variant(name="pruned-int8", pruning=PRUNING, quantization=ASYMMETRIC), PRUNED, 0.02),
}


def tokens(loaded: LoadedVariant, texts: list[str]) -> list[list[int]]:
    return [loaded.tokenizer.encode(text).ids for text in texts]


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_transformers(case: str, tmp_path: Path) -> None:
    variant, layers, tolerance = CASES[case]
    reference = write_variant(tmp_path / "v", variant=variant, layers=layers)
    loaded = load_variant(tmp_path / "v")
    texts = tokens(loaded, TEXTS)
    with torch.inference_mode():
        ours = loaded.encoder.logits(texts).softmax(dim=1)
        longest = max(len(text) for text in texts)
        ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
        mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
        theirs = reference(ids, mask).softmax(dim=1)
    assert theirs.std(dim=0).max() > 0.02, "the answers must differ for the comparison to mean something"
    assert (ours - theirs).abs().max() < tolerance


@pytest.mark.parametrize("case", CASES)
def test_an_answer_does_not_depend_on_its_neighbours(case: str, tmp_path: Path) -> None:
    variant, layers, _ = CASES[case]
    write_variant(tmp_path / "v", variant=variant, layers=layers)
    loaded = load_variant(tmp_path / "v")
    texts = tokens(loaded, TEXTS)
    with torch.inference_mode():
        together = loaded.encoder.logits(texts).softmax(dim=1)
        alone = torch.cat([loaded.encoder.logits([text]).softmax(dim=1) for text in texts])
    assert (together - alone).abs().max() < (1e-5 if variant.precision is Precision.FLOAT32 else 0.02)


def test_weights_that_differ_from_the_manifest_are_refused(tmp_path: Path) -> None:
    write_variant(tmp_path / "v", variant=Variant(name="fp32"))
    manifest = json.loads((tmp_path / "v/manifest.json").read_text())
    manifest["weightsDigest"] = "sha256:" + "0" * 64
    (tmp_path / "v/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadVariantError, match="digest"):
        load_variant(tmp_path / "v")


@pytest.mark.parametrize("name", ["manifest.json", "config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    write_variant(tmp_path / "v", variant=Variant(name="fp32"))
    (tmp_path / "v" / name).unlink()
    with pytest.raises(BadVariantError, match=str(tmp_path)):
        load_variant(tmp_path / "v")


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    write_variant(tmp_path / "v", variant=Variant(name="fp32"))
    config = json.loads((tmp_path / "v/config.json").read_text())
    config["num_hidden_layers"] = 3
    (tmp_path / "v/config.json").write_text(json.dumps(config))
    with pytest.raises(BadVariantError, match=r"encoder\.layer\.2\."):
        load_variant(tmp_path / "v")
