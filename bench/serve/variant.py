"""The model of the benchmark in the project's variant format: all-MiniLM-L6-v2 under a head with 45 classes."""

import hashlib
import json
import shutil
from importlib.resources import files
from pathlib import Path

import torch

from cycle_server.engine.model import WEIGHTS_FILE, load_pretrained, write_weights
from cycle_wire.parts import Precision, Task, Variant
from cycle_wire.variant import VariantManifest
from examples.demo_data.prepare import MODEL_PACKAGE, SUPERSENSES

LONGEST_TOKENS = 256
TOKENIZER_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def write_variant(folder: Path, *, precision: Precision) -> str:
    """Writes the folder; returns the digest. The head's weights are random: what they say doesn't change the time."""
    source = Path(str(files(MODEL_PACKAGE) / "model"))
    torch.manual_seed(0)
    model = load_pretrained(source, classes=len(SUPERSENSES))
    if precision is Precision.BFLOAT16:
        model = model.bfloat16()
    folder.mkdir(parents=True)
    for name in TOKENIZER_FILES:
        shutil.copy(source / name, folder / name)
    weights = folder / WEIGHTS_FILE
    write_weights(model.state_dict(), weights)
    digest = f"sha256:{hashlib.sha256(weights.read_bytes()).hexdigest()}"
    manifest = VariantManifest(
        variant=Variant(name=precision.value.lower(), precision=precision),
        task=Task.TEXT_CLASSIFICATION,
        model_digest=digest,
        weights_digest=digest,
        size_bytes=weights.stat().st_size,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        sparsity=0.0,
        labels=SUPERSENSES,
        maximum_sequence_length=LONGEST_TOKENS,
    )
    (folder / "manifest.json").write_text(json.dumps(manifest.to_dict()), encoding="utf-8")
    return digest
