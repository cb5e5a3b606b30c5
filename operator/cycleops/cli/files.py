"""API objects from files: YAML or JSON, one or many in a file, also ``kubectl get -o yaml``'s lists."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from cycleops.api.base import Kind
from cycleops.api.cycleprofile import CycleProfile

# Profiles are long: libyaml reads them many times faster, where PyYAML was built with it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SUFFIXES = {".yaml", ".yml", ".json"}

KindT = TypeVar("KindT", bound=Kind)


class BadInputError(ValueError):
    """A file or option that can't be used; the message says which, and what to do."""


def objects(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every API object in a file, or in the files of a folder (not below), with the file it stands in."""
    files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES) if path.is_dir() else [path]
    for file in files:
        try:
            text = file.read_text()
            documents = [json.loads(text)] if file.suffix == ".json" else list(yaml.load_all(text, Loader=_LOADER))
        except (yaml.YAMLError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise BadInputError(f"{file} can't be read: {error}") from error
        for document in documents:
            if isinstance(document, dict):
                yield from ((file, item) for item in _unpacked(document))


def _unpacked(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if isinstance(document.get("items"), list):
        yield from (item for item in document["items"] if isinstance(item, dict))
    else:
        yield document


def of_kind(kind: type[KindT], *paths: Path) -> list[KindT]:
    """Objects of one kind. Raises BadInputError naming file and field when one is not valid."""
    found = []
    for path in paths:
        for file, item in objects(path):
            if item.get("kind") != kind.__name__:
                continue
            try:
                found.append(kind.model_validate(item))
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise BadInputError(f"{file}: {kind.__name__} {where}: {first['msg']}") from error
    return found


def newest_profiles(found: list[CycleProfile], *, hardware: list[str], digest: str | None) -> tuple[CycleProfile, ...]:
    """One per variant and class, the newest; of one model. Raises BadInputError when it isn't clear which."""
    usable = [p for p in found if p.spec.hardware_class in hardware and digest in (None, p.spec.model_digest)]
    if not usable:
        there = ", ".join(sorted({p.spec.hardware_class for p in found})) or "none at all"
        raise BadInputError(f"no CycleProfile of the model on {', '.join(hardware)}; there are profiles on: {there}")
    digests = sorted({p.spec.model_digest for p in usable})
    if len(digests) > 1:
        raise BadInputError(
            f"the profiles are of {len(digests)} models ({', '.join(d[:19] for d in digests)}): give those of one "
            "model, or name it in spec.model.digest"
        )
    by_place = {(p.spec.variant, p.spec.hardware_class): p for p in sorted(usable, key=lambda p: p.spec.measured_at)}
    return tuple(by_place[place] for place in sorted(by_place))
