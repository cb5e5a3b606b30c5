"""Reads the folder of a causal language model's variant (cycle_wire.variant). Unpickles nothing, runs no code of it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PretrainedConfig, PreTrainedTokenizerFast

from cycle_server.engine.causal.paged import ATTENTION, register
from cycle_server.engine.device import CPU, Device
from cycle_server.engine.linears import pack_model
from cycle_server.engine.load import DTYPES, check_digest
from cycle_server.engine.stages import read_manifest
from cycle_server.errors import BadVariantError
from cycle_wire.variant import VariantManifest

# Those that were tested. Each attends to everything before a token, through transformers' AttentionInterface.
SUPPORTED_FAMILIES = ("gpt2", "llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class LoadedCausal:
    """``end_tokens``: what ends an answer. ``maximum_tokens``: of prompt and answer together."""

    model: Any
    dtype: torch.dtype
    tokenizer: PreTrainedTokenizerFast
    manifest: VariantManifest
    end_tokens: frozenset[int]
    maximum_tokens: int


def load_causal(folder: Path, *, device: Device = CPU, verify: bool = True) -> LoadedCausal:
    """``verify`` compares the weights file with the manifest's digest. Raises BadVariantError."""
    try:
        manifest = read_manifest(folder)
        if verify:
            check_digest(folder, manifest)
        config = _config(folder)
        dtype = DTYPES[manifest.variant.precision]
        model = _model(config, manifest, load_file(folder / "model.safetensors"), dtype, device)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        end_tokens = _end_tokens(folder, config)
    except KeyError as error:
        raise BadVariantError(f"{folder}: lacks {error}") from error
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BadVariantError(f"{folder}: {error}") from error
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    return LoadedCausal(
        model=model,
        dtype=dtype,
        tokenizer=tokenizer,
        manifest=manifest,
        end_tokens=end_tokens,
        maximum_tokens=min(manifest.maximum_sequence_length, config.max_position_embeddings),
    )


def _config(folder: Path) -> PretrainedConfig:
    config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if config.model_type not in SUPPORTED_FAMILIES:
        known = ", ".join(SUPPORTED_FAMILIES)
        raise BadVariantError(f"config.json: model_type {config.model_type!r} is none of {known}")
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or (config.model_type == "mistral" and config.sliding_window is not None):
        raise BadVariantError("config.json: layers with sliding attention can't be served")
    return config


def _model(
    config: PretrainedConfig,
    manifest: VariantManifest,
    weights: dict[str, Tensor],
    dtype: torch.dtype,
    device: Device,
) -> Any:
    register()
    model = AutoModelForCausalLM.from_config(
        config, dtype=dtype, attn_implementation=ATTENTION, trust_remote_code=False
    )
    return pack_model(model, weights, manifest=manifest, dtype=dtype, device=device)


def _end_tokens(folder: Path, config: PretrainedConfig) -> frozenset[int]:
    path = folder / "generation_config.json"
    said = GenerationConfig.from_pretrained(str(folder), local_files_only=True) if path.is_file() else config
    ends = getattr(said, "eos_token_id", None)
    if ends is None:  # transformers moves generation's settings out of config.json, older files have them there
        ends = json.loads((folder / "config.json").read_bytes()).get("eos_token_id")
    return frozenset([ends] if isinstance(ends, int) else ends or [])
