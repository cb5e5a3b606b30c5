"""From texts to answers in three steps that different threads may run: pre, compute, post (engine.stages has the first
and the last). ``compute`` runs on one thread only.
"""

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from cycle_server.engine.device import CPU, Device
from cycle_server.engine.encoder import Encoder
from cycle_server.engine.load import load_variant
from cycle_server.engine.sizes import sizes
from cycle_server.engine.stages import TextStages
from cycle_server.items import Items

# glibc's mallopt(3) parameters. By default each temporary of a batch is mapped and unmapped anew, and the page faults
# can cost a third of a large batch's time; so free memory is kept, and large blocks come from the heap.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEPT_BYTES, _PAD_BYTES, _LARGEST_HEAP_BLOCK_BYTES = 256 << 20, 16 << 20, 32 << 20


class Engine(TextStages):
    """One variant of a text classifier, ready to compute. Raises BadVariantError when its folder is not right."""

    def __init__(self, folder: Path, *, threads: int, device: Device = CPU, verify: bool = True) -> None:
        configure_process(threads=threads)
        loaded = load_variant(folder, device=device, verify=verify)
        super().__init__(loaded.tokenizer, manifest=loaded.manifest, maximum_tokens=loaded.maximum_tokens)
        self._encoder = loaded.encoder

    def prepare(self, tokens: int) -> None:
        """As prepare_encoder."""
        prepare_encoder(self._encoder, tokens)

    def compute(self, items: Items) -> np.ndarray:
        """Float32 (n, classes + hidden): each text's logits, and beside them what they were made from."""
        with torch.inference_mode():
            embeddings = self._encoder.embed(cast("Sequence[Sequence[int]]", items))
            outputs = torch.cat([self._encoder.classifier(embeddings), embeddings], dim=1)
            on_host: np.ndarray = self._encoder.device.get(outputs).numpy()
        return on_host


def prepare_encoder(encoder: Encoder, tokens: int) -> None:
    """Has the kernels made for batches of 1 to ``tokens`` tokens: what comes later needs no new memory for them.

    The largest first, for the smaller ones find room where its temporaries were.
    """
    with torch.inference_mode():
        for rows in sizes(tokens) if encoder.sized else (1,):  # one row is contiguous whichever way it lies
            encoder.prepare(rows)


def configure_process(*, threads: int) -> None:
    """Threads of torch and how memory is kept; once per process, before the first computation."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    torch.set_grad_enabled(False)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # musl has none
            libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK_BYTES)
            libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
            libc.mallopt(_M_TOP_PAD, _PAD_BYTES)
