"""A model's folder, as transformers writes it. The same for every family that its Auto classes load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from cycle_server.engine.model import UnsupportedModelError


def config_of(folder: Path, *, families: Sequence[str]) -> PretrainedConfig:
    """Raises OSError or ValueError for a bad config.json and UnsupportedModelError for another family."""
    config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
    if config.model_type not in families:
        known = f"none of {', '.join(families)}" if len(families) > 1 else f"not {families[0]}"
        raise UnsupportedModelError(f"{folder}/config.json: model_type {config.model_type!r} is {known}")
    return config


def load_whole(kind: Any, folder: Path, config: PretrainedConfig) -> PreTrainedModel:
    """A model with its weights from safetensors, in float32 and evaluation mode. ``kind``: an Auto class.

    Raises RuntimeError when weights are missing, and whatever transformers raises for files that it can't read.
    """
    model, found = kind.from_pretrained(
        str(folder), config=config, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    if missing := sorted(found["missing_keys"]):
        raise RuntimeError(f"{folder} lacks {len(missing)} weights, first {missing[0]}")
    model.float().eval()
    loaded: PreTrainedModel = model
    return loaded
