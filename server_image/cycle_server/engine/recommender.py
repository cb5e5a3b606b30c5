"""A recommender, ready to compute: the engine's encoder over sets of items, with a score of every item."""

from pathlib import Path

import numpy as np
import torch

from cycle_server.engine.device import CPU, Device
from cycle_server.engine.load import load_encoder, longest
from cycle_server.engine.pipeline import configure_process, prepare_encoder
from cycle_server.engine.stages import ItemStages, read_catalogue, read_manifest
from cycle_server.items import Items

NEVER = -1e30  # the logit of an item that was given: its probability is 0


class Recommender(ItemStages):
    """One variant, ready to compute. Raises BadVariantError when its folder is not right."""

    def __init__(self, folder: Path, *, threads: int, device: Device = CPU, verify: bool = True) -> None:
        configure_process(threads=threads)
        manifest, catalogue = read_manifest(folder), read_catalogue(folder)
        self._encoder = load_encoder(folder, manifest, classes=len(catalogue), device=device, verify=verify)
        super().__init__(catalogue, manifest=manifest, maximum_tokens=longest(self._encoder, manifest))

    def prepare(self, tokens: int) -> None:
        """As of any encoder."""
        prepare_encoder(self._encoder, tokens)

    def compute(self, items: Items) -> np.ndarray:
        """Float32 (n, items): each set's logits, those of its own items NEVER."""
        sets = [[int(token) for token in one] for one in items]
        with torch.inference_mode():
            logits = self._encoder.logits([one[: self.maximum_tokens] for one in sets])
            outputs: np.ndarray = self._encoder.device.get(logits).numpy()
        rows = [row for row, one in enumerate(sets) for token in one if token]
        outputs[rows, [token - 1 for one in sets for token in one if token]] = NEVER
        return outputs
