"""The files of a model's folder that tasks share."""

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import PretrainedConfig, PreTrainedModel

from cycle_server.engine.model import LABELS_FILE, SHARDS_INDEX, WEIGHTS_FILE, UnsupportedModelError
from cycle_trainer.failures import BadInputError, uri_of

logger = logging.getLogger(__name__)

MODEL_FIELD = "spec.model.uri"
TOKENIZER_FILE = "tokenizer.json"
# What a served model's folder takes over from the pretrained one.
COPIED_FILES = (
    *("config.json", "generation_config.json", TOKENIZER_FILE, "tokenizer_config.json", "special_tokens_map.json"),
    *("chat_template.jinja", "preprocessor_config.json"),
)


def check_model_folder(folder: Path, *, needed: Sequence[str]) -> None:
    """Raises BadInputError ModelNotFound unless the folder has what a model needs."""
    if not folder.is_dir():
        message = f"there is no folder {uri_of(folder)}; put the model there or mend spec.model.uri"
        raise BadInputError("ModelNotFound", message, field=MODEL_FIELD)
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise BadInputError("ModelNotFound", f"{uri_of(folder)} lacks {', '.join(missing)}", field=MODEL_FIELD)


def checked_config(
    folder: Path, read: Callable[[Path], PretrainedConfig], *, maximum_tokens: int, unit: str = "tokens"
) -> PretrainedConfig:
    """The folder's configuration as a family reads it. ``unit``: what a message calls the inputs that make a length.

    Raises BadInputError: ModelUnsupported, ModelUnreadable, BadSequenceLength when the model takes less.
    """
    try:
        config = read(folder)
    except UnsupportedModelError as error:
        raise BadInputError("ModelUnsupported", str(error), field=MODEL_FIELD) from None
    except (OSError, ValueError, StrictDataclassError) as error:
        message = f"{uri_of(folder)}/config.json can't be read: {error}"
        raise BadInputError("ModelUnreadable", message, field=MODEL_FIELD) from None
    check_length(maximum_tokens, longest=config.max_position_embeddings, unit=unit)
    return config


def check_length(maximum_tokens: int, *, longest: int, unit: str = "tokens") -> None:
    """Raises BadInputError BadSequenceLength when the model takes less than the spec asks for."""
    if maximum_tokens > longest:
        message = f"maximumSequenceLength {maximum_tokens}: the model takes at most {longest} {unit}"
        raise BadInputError("BadSequenceLength", message, field="spec.training.maximumSequenceLength")


def loaded_or_random(
    folder: Path, *, load: Callable[[], PreTrainedModel], draw: Callable[[], PreTrainedModel], random: bool
) -> PreTrainedModel:
    """The model of the folder's weights, or where it has none one of ``random`` weights, which is said in the log.

    Raises BadInputError ModelUnreadable when it can't be made.
    """
    try:
        model = draw() if random else load()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        message = f"{uri_of(folder)} can't be loaded: {error}"
        raise BadInputError("ModelUnreadable", message, field=MODEL_FIELD) from error
    if random:
        logger.warning(
            "%s has no %s: training starts from random weights, drawn from spec.training.seed",
            uri_of(folder),
            WEIGHTS_FILE,
        )
    return model


def copy_companions(source: Path, target: Path) -> None:
    """Configuration and what makes a model's input, which training doesn't change."""
    for name in COPIED_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def write_labels(labels: Sequence[str], folder: Path) -> None:
    """Class names by index."""
    text = json.dumps(labels, ensure_ascii=False, indent=0)
    (folder / LABELS_FILE).write_text(text + "\n", encoding="utf-8")


def has_weights(folder: Path) -> bool:
    """Raises BadInputError for weights that would have to be unpickled."""
    if (folder / WEIGHTS_FILE).is_file() or (folder / SHARDS_INDEX).is_file():
        return True
    if pickled := sorted(path.name for path in folder.glob("*.bin")):
        message = f"{uri_of(folder)} has {pickled[0]}, which is not read: convert the weights to {WEIGHTS_FILE}"
        raise BadInputError("ModelUnsupported", message, field=MODEL_FIELD)
    return False
