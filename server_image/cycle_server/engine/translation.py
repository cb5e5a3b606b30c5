"""A translator, ready to compute: transformers' encoder-decoder with the engine's kernels in its linear layers.

It decodes greedily: the likeliest token, one for each text of the batch in a step. A text whose translation has ended
leaves the batch, so that nobody waits for another's length longer than the batch itself takes. Reads a variant's folder
(cycle_wire.variant). Unpickles nothing, runs no code of it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PretrainedConfig
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from cycle_server.engine.device import CPU, Device
from cycle_server.engine.linears import pack_model, sized_layers
from cycle_server.engine.load import DTYPES, check_digest
from cycle_server.engine.pipeline import configure_process
from cycle_server.engine.sizes import sizes
from cycle_server.engine.stages import NO_TOKEN, TranslationStages, read_manifest, read_tokenizer
from cycle_server.errors import BadVariantError
from cycle_server.items import Items

SUPPORTED_FAMILY = "marian"
# A translation has at most so many tokens for each of the text, and some: one that repeats itself must end.
TOKENS_FOR_EACH, MORE_TOKENS = 2, 16
WIDTH_MULTIPLE = 8  # of the padded texts: kernels and memory are kept for each number of rows (engine/sizes.py)


class TranslationEngine(TranslationStages):
    """One variant, ready to compute. Raises BadVariantError when its folder is not right."""

    def __init__(self, folder: Path, *, threads: int, device: Device = CPU, verify: bool = True) -> None:
        configure_process(threads=threads)
        manifest = read_manifest(folder)
        try:
            if verify:
                check_digest(folder, manifest)
            config = _config(folder)
            dtype = DTYPES[manifest.variant.precision]
            model = AutoModelForSeq2SeqLM.from_config(config, dtype=dtype, trust_remote_code=False)
            weights = load_file(folder / "model.safetensors")
            self._model: Any = pack_model(model, weights, manifest=manifest, dtype=dtype, device=device)
        except KeyError as error:
            raise BadVariantError(f"{folder}: lacks {error}") from error
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise BadVariantError(f"{folder}: {error}") from error
        maximum_tokens = min(manifest.maximum_sequence_length, config.max_position_embeddings)
        tokenizer = read_tokenizer(folder, maximum_tokens=maximum_tokens)
        super().__init__(tokenizer, manifest=manifest, maximum_tokens=maximum_tokens)
        self._device = device
        self._dtype = dtype
        self._pad: int = config.pad_token_id
        self._start: int = config.decoder_start_token_id
        self._end: int = config.eos_token_id

    def prepare(self, tokens: int) -> None:
        """Has the kernels of the layers made for up to so many ``tokens`` of a batch."""
        inner, _ = sized_layers(self._model)
        with torch.inference_mode():
            for rows in sizes(tokens):
                for layer in inner:
                    layer(torch.zeros(rows, layer.inputs, dtype=self._dtype))

    def limit(self, tokens: int) -> int:
        """Tokens that the translation of a text of so many may have, its end included."""
        return min(TOKENS_FOR_EACH * tokens + MORE_TOKENS, self.maximum_tokens)

    def compute(self, items: Items) -> np.ndarray:
        """Float32 (n, maximum_tokens): ids of each translation without its end, then NO_TOKEN.

        Raises ArithmeticError when a logit isn't finite.
        """
        texts = cast("Sequence[Sequence[int]]", items)
        with torch.inference_mode():
            ids, mask = self._padded(texts)
            hidden = self._model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
            return self._decoded(hidden, mask, limits=[self.limit(len(text)) for text in texts])

    def _padded(self, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Ids and mask (n, width)."""
        width = -(-max(map(len, texts)) // WIDTH_MULTIPLE) * WIDTH_MULTIPLE
        ids = torch.full((len(texts), width), self._pad)
        mask = torch.zeros(len(texts), width, dtype=torch.long)
        for place, text in enumerate(texts):
            ids[place, : len(text)] = torch.tensor(text)
            mask[place, : len(text)] = 1
        return self._device.put(ids), self._device.put(mask)

    def _decoded(self, hidden: Tensor, mask: Tensor, *, limits: Sequence[int]) -> np.ndarray:
        """``hidden`` (n, width, size): what the encoder says of each text."""
        result = np.full((len(limits), self.maximum_tokens), NO_TOKEN, dtype=np.float32)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        going = list(range(len(limits)))
        last = [self._start] * len(limits)
        for step in range(max(limits)):
            tokens = self._step(last, hidden, mask, cache)
            for text, token in zip(going, tokens, strict=True):
                if token != self._end:
                    result[text, step] = token
            left = [
                place
                for place, (text, token) in enumerate(zip(going, tokens, strict=True))
                if token != self._end and step + 1 < limits[text]
            ]
            if not left:
                break
            if len(left) < len(going):
                kept = self._device.put(torch.tensor(left))
                cache.batch_select_indices(kept)
                hidden, mask = hidden[kept], mask[kept]
            going, last = [going[place] for place in left], [tokens[place] for place in left]
        return result

    def _step(self, last: Sequence[int], hidden: Tensor, mask: Tensor, cache: EncoderDecoderCache) -> list[int]:
        """The likeliest token behind each translation's ``last``."""
        logits = self._model(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            attention_mask=mask,
            decoder_input_ids=self._device.put(torch.tensor(last).unsqueeze(1)),
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        logits[:, self._pad] = -torch.inf  # a translation has none
        highest, tokens = logits.max(dim=1)
        if not bool(torch.isfinite(highest).all()):
            raise ArithmeticError("the model's output isn't finite")
        found: list[int] = self._device.get(tokens).tolist()
        return found


def _config(folder: Path) -> PretrainedConfig:
    """Raises BadVariantError."""
    said = json.loads((folder / "config.json").read_bytes())
    if said.get("model_type") != SUPPORTED_FAMILY:
        raise BadVariantError(f"config.json: model_type {said.get('model_type')!r} is not {SUPPORTED_FAMILY}")
    return AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
