"""The files of a model's folder that every task has."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from cycle_trainer.failures import BadInputError, uri_of

MODEL_FIELD = "spec.model.uri"
TOKENIZER_FILE = "tokenizer.json"
# What a served model's folder takes over from the pretrained one.
COPIED_FILES = (
    *("config.json", "generation_config.json", TOKENIZER_FILE, "tokenizer_config.json", "special_tokens_map.json"),
    "chat_template.jinja",
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
    """Configuration and tokenizer, which training doesn't change."""
    for name in COPIED_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
