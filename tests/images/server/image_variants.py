"""Small random image classifiers, written as the trainer writes them."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageClassification, ConvNextConfig, PreTrainedModel, ViTConfig

from cycle_wire.parts import Task, Variant
from cycle_wire.variant import VariantManifest
from tests.images.server.variants import DIGEST, LABELS

SHAPE = (3, 8, 6)


def write_image_variant(folder: Path, *, family: str = "vit", variant: Variant) -> PreTrainedModel:
    """Writes the folder in float32; returns the same model as transformers computes it."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    channels, *size = SHAPE
    common = {"num_channels": channels, "image_size": size, "id2label": dict(enumerate(LABELS)), "patch_size": 2}
    if family == "vit":
        config = ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, **common
        )  # fmt: skip
    else:
        config = ConvNextConfig(
            hidden_sizes=[16, 32], depths=[1, 2], num_stages=2, layer_scale_init_value=0.5, **common
        )  # fmt: skip
    model: PreTrainedModel = AutoModelForImageClassification.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            parameter.data = torch.randn_like(parameter) * 0.3
    config.save_pretrained(folder)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    manifest = VariantManifest(
        variant=variant,
        task=Task.IMAGE_CLASSIFICATION,
        model_digest=DIGEST,
        weights_digest=f"sha256:{hashlib.sha256((folder / 'model.safetensors').read_bytes()).hexdigest()}",
        size_bytes=(folder / "model.safetensors").stat().st_size,
        parameters=sum(p.numel() for p in model.parameters()),
        sparsity=0.0,
        labels=LABELS,
    )
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return model


def probabilities_by(model: PreTrainedModel, images: np.ndarray) -> np.ndarray:
    """As transformers computes them, from pixels as a vision transformer wants them: -1 to 1."""
    with torch.no_grad():
        values = torch.from_numpy(images.astype(np.float32) / 255 * 2 - 1)
        answers: np.ndarray = model(pixel_values=values).logits.softmax(dim=1).numpy()
    return answers
