"""An image classifier, ready to compute: transformers' model with the engine's kernels in its linear layers.

Reads a variant's folder (cycle_wire.variant). Unpickles nothing, runs no code of it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageClassification

from cycle_server.engine.device import CPU, Device
from cycle_server.engine.linears import pack_floats, put_quantized
from cycle_server.engine.load import DTYPES, check_digest
from cycle_server.engine.pipeline import configure_process
from cycle_server.engine.sizes import padded, sizes
from cycle_server.engine.stages import ImageStages, read_image_format, read_manifest
from cycle_server.errors import BadVariantError
from cycle_server.items import Items
from cycle_wire.variant import VariantManifest

# Those that were tested. Neither mixes the images of a batch.
SUPPORTED_FAMILIES = ("convnext", "vit")


class ImageEngine(ImageStages):
    """One variant, ready to compute. Raises BadVariantError when its folder is not right."""

    def __init__(self, folder: Path, *, threads: int, device: Device = CPU, verify: bool = True) -> None:
        configure_process(threads=threads)
        manifest = read_manifest(folder)
        super().__init__(read_image_format(folder), manifest=manifest)
        self._device = device
        self._dtype = DTYPES[manifest.variant.precision]
        try:
            if verify:
                check_digest(folder, manifest)
            self._model = _model(folder, manifest, self._dtype, device)
        except KeyError as error:
            raise BadVariantError(f"{folder}: lacks {error}") from error
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise BadVariantError(f"{folder}: {error}") from error

    def prepare(self, images: int) -> None:
        """Has the kernels made for batches of 1 to ``images``: what comes later needs no new memory for them."""
        for size in sizes(images):
            self.compute([self.image_format.blank()] * size)

    def compute(self, items: Items) -> np.ndarray:
        """Float32 (n, classes): each image's logits. Blank images lead to the next size that is computed."""
        count = len(items)
        images = np.concatenate([*items, *[self.image_format.blank()] * (padded(count) - count)])
        values = torch.from_numpy(self.image_format.values(images))
        with torch.inference_mode():
            logits = self._model(pixel_values=self._device.put(values.to(self._dtype))).logits[:count]
            outputs: np.ndarray = self._device.get(logits.float()).numpy()
        return outputs


def _model(folder: Path, manifest: VariantManifest, dtype: torch.dtype, device: Device) -> Any:
    weights: dict[str, Tensor] = load_file(folder / "model.safetensors")
    model = _empty_model(folder, manifest, dtype)
    _reshape(model, weights)
    put_quantized(model, weights, manifest, dtype=dtype, device=device)
    model.load_state_dict(weights)
    model.eval()
    pack_floats(model, device=device)
    return model.to(device.place)


def _empty_model(folder: Path, manifest: VariantManifest, dtype: torch.dtype) -> Any:
    """As ``config.json`` describes it. Raises BadVariantError."""
    said = json.loads((folder / "config.json").read_bytes())
    if said.get("model_type") not in SUPPORTED_FAMILIES:
        known = ", ".join(SUPPORTED_FAMILIES)
        raise BadVariantError(f"config.json: model_type {said.get('model_type')!r} is none of {known}")
    config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if config.num_labels != len(manifest.labels):
        raise BadVariantError(f"manifest.json: {len(manifest.labels)} labels for {config.num_labels} classes")
    return AutoModelForImageClassification.from_config(config, dtype=dtype, trust_remote_code=False)


def _reshape(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Gives linear layers that were cut the shapes of their weights; heads are as many as the queries have room for."""
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear):
            continue
        outputs, inputs = weights[f"{name}.weight"].shape
        if (outputs, inputs) != (module.out_features, module.in_features):
            smaller = nn.Linear(inputs, outputs, bias=module.bias is not None, dtype=module.weight.dtype)
            model.set_submodule(name, smaller)
