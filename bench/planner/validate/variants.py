"""The variants that are served: all-MiniLM-L6-v2's weights, made small as compression makes them. Inside the image."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.serve.variant import LONGEST_TOKENS, TOKENIZER_FILES
from cycle_server.engine.model import WEIGHTS_FILE, EncoderClassifier, layer_shapes, load_pretrained, write_weights
from cycle_trainer.compress.quantization import quantize
from cycle_trainer.families import encoder
from cycle_wire.parts import Precision, Quantization, Task, Variant
from cycle_wire.variant import VariantManifest
from examples.demo_data.prepare import MODEL_PACKAGE, SUPERSENSES

HALF = 0.5


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """``layers``: of the model's six, from the bottom. ``sparsity``: share of heads and neurons that is cut out."""

    layers: int
    precision: Precision = Precision.FLOAT32
    quantized: bool = False
    sparsity: float = 0.0


# Fast ones, so that minutes give the ten thousand answers that a p99 needs.
RECIPES = {
    "fp32": Recipe(layers=1),
    "pruned": Recipe(layers=2, sparsity=HALF),
    "int8": Recipe(layers=1, quantized=True),
}


def variant_folder(root: Path, name: str) -> tuple[Path, VariantManifest]:
    """The variant's folder below ``root``; made unless it is there."""
    folder = root / name
    file = folder / "manifest.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, name, RECIPES[name])
    return folder, VariantManifest.model_validate_json(file.read_bytes())


def _write(folder: Path, name: str, recipe: Recipe) -> None:
    """The head's weights are random and nothing is trained again: what they say doesn't change the time."""
    source = Path(str(files(MODEL_PACKAGE) / "model"))
    torch.manual_seed(0)
    model = load_pretrained(source, classes=len(SUPERSENSES))
    model.encoder.encoder.layer = nn.ModuleList(list(model.encoder.encoder.layer)[: recipe.layers])
    if recipe.sparsity:
        encoder.prune(model, sparsity=recipe.sparsity)
    for file in TOKENIZER_FILES:
        shutil.copy(source / file, folder / file)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": recipe.layers}), encoding="utf-8")
    weights, quantization = folder / WEIGHTS_FILE, Quantization() if recipe.quantized else None
    tensors, integers = _tensors(model, recipe.precision, quantization)
    write_weights(tensors, weights)
    digest = f"sha256:{hashlib.sha256(weights.read_bytes()).hexdigest()}"
    manifest = VariantManifest(
        variant=Variant(name=name, precision=recipe.precision, quantization=quantization),
        task=Task.TEXT_CLASSIFICATION,
        model_digest=digest,
        weights_digest=digest,
        size_bytes=weights.stat().st_size,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        sparsity=recipe.sparsity,
        layers=layer_shapes(model) if recipe.sparsity else [],
        quantized_layers=integers,
        labels=SUPERSENSES,
        maximum_sequence_length=LONGEST_TOKENS,
    )
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")


def _tensors(
    model: EncoderClassifier, precision: Precision, quantization: Quantization | None
) -> tuple[dict[str, Tensor], list[str]]:
    dtype = torch.bfloat16 if precision is Precision.BFLOAT16 else torch.float32
    tensors = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    integers = []
    if quantization is not None:
        for name, linear in encoder.linears(model):
            tensors |= quantize(linear.weight, quantization=quantization).named(name)
            integers.append(name)
    return tensors, integers
