"""Checkpoints: OUTPUT/checkpoints/<job uid>/step-<n>/ with the tensors and a note of their digest.

A checkpoint appears at once under its name; one whose digest doesn't match is passed over for the one before it.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from cycle_server.engine.model import write_weights
from cycle_trainer.files import digest_of, publish, scratch_folder

logger = logging.getLogger(__name__)

TENSORS_FILE = "state.safetensors"
NOTE_FILE = "state.json"


@dataclass(frozen=True, kw_only=True)
class Saved:
    step: int
    path: Path
    digest: str


def save(tensors: Mapping[str, Tensor], *, step: int, folder: Path, keep: int) -> Saved:
    """Write a checkpoint after ``step`` steps and remove all but the newest ``keep``."""
    target = folder / f"step-{step:08d}"
    with scratch_folder(folder) as scratch:
        write_weights(tensors, scratch / TENSORS_FILE)
        digest = digest_of(scratch / TENSORS_FILE)
        (scratch / NOTE_FILE).write_text(json.dumps({"step": step, "digest": digest}), encoding="utf-8")
        if target.exists():  # of an earlier attempt, and passed over when resuming
            shutil.rmtree(target)
        publish(scratch, target)
    for old in _newest_first(folder)[keep:]:
        shutil.rmtree(old)
    return Saved(step=step, path=target, digest=digest)


def newest(folder: Path) -> Saved | None:
    """The newest checkpoint that is whole; says which ones it passes over."""
    for path in _newest_first(folder):
        try:
            note = json.loads((path / NOTE_FILE).read_text(encoding="utf-8"))
            step, expected = int(note["step"]), str(note["digest"])
            found = digest_of(path / TENSORS_FILE)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("checkpoint %s is not whole (%s): falling back to the one before", path, error)
            continue
        if found == expected:
            return Saved(step=step, path=path, digest=found)
        logger.warning("checkpoint %s is corrupt (its digest is %s): falling back to the one before", path, found)
    return None


def restore(saved: Saved, tensors: Mapping[str, Tensor]) -> None:
    """Copy a checkpoint into tensors of the same names and shapes. Raises ValueError when they differ."""
    stored = load_file(saved.path / TENSORS_FILE)
    if stored.keys() != tensors.keys():
        difference = sorted(stored.keys() ^ tensors.keys())
        raise ValueError(f"{saved.path} is of another model: {len(difference)} names differ, first {difference[0]}")
    for name, tensor in tensors.items():
        tensor.copy_(stored[name])


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)
