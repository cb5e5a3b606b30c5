"""The files of a model's folder that tasks share."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from cycle_server.engine.model import LABELS_FILE, SHARDS_INDEX, WEIGHTS_FILE
from cycle_trainer.failures import BadInputError, uri_of

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
