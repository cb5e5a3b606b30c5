"""From texts to answers in three steps that different threads may run: pre, compute, post.

``pre`` (the Rust tokenizer, without the GIL) and ``post`` may run on any thread; ``compute`` on one thread only.
"""

import ctypes
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from cycle_server.engine.load import LoadedVariant, load_variant
from cycle_wire.variant import VariantManifest

Tokens = list[list[int]]

# glibc's mallopt(3) parameters. By default each temporary of a batch is mapped and unmapped anew, and the page faults
# can cost a third of a large batch's time; so free memory is kept, and large blocks come from the heap.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEPT_BYTES, _PAD_BYTES, _LARGEST_HEAP_BLOCK_BYTES = 256 << 20, 16 << 20, 32 << 20


@dataclass(frozen=True)
class Answers:
    """``labels`` (n,), their ``probability`` (n,), and ``probabilities`` float32 (n, classes)."""

    labels: list[str]
    probability: list[float]
    probabilities: np.ndarray


class Engine:
    """One variant, ready to compute. Raises BadVariantError when its folder is not right."""

    def __init__(self, folder: Path, *, threads: int, verify: bool = True) -> None:
        configure_process(threads=threads)
        loaded: LoadedVariant = load_variant(folder, verify=verify)
        self._encoder = loaded.encoder
        self.tokenizer: Tokenizer = loaded.tokenizer
        self.manifest: VariantManifest = loaded.manifest
        self.maximum_tokens: int = loaded.maximum_tokens

    def pre(self, texts: Sequence[str]) -> Tokens:
        """Token ids of each text, truncated; never empty."""
        if len(texts) == 1:
            return [self.tokenizer.encode(texts[0]).ids or [0]]
        return [encoding.ids or [0] for encoding in self.tokenizer.encode_batch_fast(list(texts))]

    def first_cut(self, texts: Sequence[str], tokens: Tokens) -> int | None:
        """Index of the first text that ``pre`` made shorter."""
        full = (index for index, ids in enumerate(tokens) if len(ids) >= self.maximum_tokens)
        return next((index for index in full if self.tokenizer.encode(texts[index]).overflowing), None)

    def compute(self, tokens: Sequence[Sequence[int]]) -> np.ndarray:
        """Float32 (n, classes + hidden): each text's logits, and beside them what they were made from."""
        with torch.inference_mode():
            embeddings = self._encoder.embed(tokens)
            outputs: np.ndarray = torch.cat([self._encoder.classifier(embeddings), embeddings], dim=1).numpy()
        return outputs

    def embeddings(self, outputs: np.ndarray) -> np.ndarray:
        """Float32 (n, hidden) of length 1, from what ``compute`` gave. Raises ArithmeticError like ``post``."""
        vectors = outputs[:, len(self.manifest.labels) :]
        if not np.isfinite(vectors).all():
            raise ArithmeticError("the model's output isn't finite")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: np.ndarray = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
        return unit

    def post(self, outputs: np.ndarray) -> Answers:
        """From what ``compute`` gave. Raises ArithmeticError when a logit isn't finite."""
        logits = outputs[:, : len(self.manifest.labels)]
        if not np.isfinite(logits).all():
            raise ArithmeticError("the model's output isn't finite")
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        best = probabilities.argmax(axis=1)
        return Answers(
            labels=[self.manifest.labels[i] for i in best.tolist()],
            probability=probabilities[np.arange(len(best)), best].tolist(),
            probabilities=probabilities,
        )


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
