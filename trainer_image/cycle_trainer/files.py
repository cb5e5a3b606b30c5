"""Files that are either whole or not there: digests, syncing, folders that appear at once."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART_PREFIX = ".part-"


def digest_of(path: Path) -> str:
    """``sha256:`` and the hex digest of a file's content."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def folder_of_digest(output: Path, digest: str) -> Path:
    """Where the model with this digest is: OUTPUT/sha256-<hex>."""
    return output / digest.replace(":", "-")


def sync(path: Path) -> None:
    """Make a file's or folder's content survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder in ``parent``, removed at the end unless it was published."""
    parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=PART_PREFIX, dir=parent))
    scratch.chmod(0o775)
    try:
        yield scratch
    finally:
        if scratch.exists():
            shutil.rmtree(scratch)


def remove_leftovers(parent: Path) -> None:
    """Remove the scratch folders of processes that were killed; only where nobody else writes."""
    for leftover in parent.glob(f"{PART_PREFIX}*"):
        shutil.rmtree(leftover)


def publish(scratch: Path, target: Path) -> None:
    """Sync a scratch folder and give it its name at once. Raises OSError when a folder of that name has content."""
    for path in sorted(scratch.rglob("*")):
        sync(path)
    sync(scratch)
    scratch.rename(target)
    sync(target.parent)
