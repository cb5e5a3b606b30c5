"""The evaluation rows, as the trainer reads them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from cycle_server.errors import BadInputError
from cycle_wire.parts import Fields

Content = TypeVar("Content")


@dataclass(frozen=True)
class Row(Generic[Content]):
    content: Content
    truth: str


def read_rows(
    path: Path,
    *,
    fields: Fields,
    kind: str,
    truth: str = "label",
    convert: Callable[[object], Content],
    maximum_rows: int | None,
) -> list[Row[Content]]:
    """The first rows of a file of JSON lines; ``kind`` of content, text or image, and ``truth``, label or translation,
    as ``fields`` names them.

    Raises BadInputError: DataNotFound or BadData, also when ``convert`` raises ValueError.
    """
    names = {kind: getattr(fields, kind), truth: getattr(fields, truth)}
    return [
        _row(record, names=names, convert=convert, where=where)
        for where, record in read_records(path, maximum_rows=maximum_rows)
    ]


def read_records(path: Path, *, maximum_rows: int | None) -> list[tuple[str, object]]:
    """Each line that isn't blank: where it stands, what is in it. Raises BadInputError: DataNotFound or BadData."""
    records: list[tuple[str, object]] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if len(records) == maximum_rows:
                    break
                if line.strip():
                    where = f"{path}, line {number}"
                    records.append((where, _parsed(line, where=where)))
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise BadInputError(message, reason="DataNotFound", field="spec.data.evaluation") from error
    if not records:
        raise BadInputError(f"{path} has no rows", reason="BadData", field="spec.data.evaluation")
    return records


def field_of(record: object, *, name: str, where: str, field: str) -> Any:
    """What the line has under ``name``, which spec.data.fields.``field`` says. Raises BadInputError."""
    if not isinstance(record, dict) or name not in record:
        raise BadInputError(f"{where}: no field {name!r}", reason="BadData", field=f"spec.data.fields.{field}")
    return record[name]


def _parsed(line: str, *, where: str) -> object:
    try:
        record: object = json.loads(line)
    except ValueError as error:
        raise BadInputError(f"{where}: not JSON", reason="BadData", field="spec.data.evaluation") from error
    return record


def _row(record: object, *, names: Mapping[str, str], convert: Callable[[object], Content], where: str) -> Row[Content]:
    """``names`` of the fields that hold content and truth, by what the spec calls them."""
    (kind, content_name), _ = names.items()
    value, truth = (field_of(record, name=name, where=where, field=field) for field, name in names.items())
    try:
        content = convert(value)
    except ValueError as error:
        message = f"{where}: field {content_name!r} {error}"
        raise BadInputError(message, reason="BadData", field=f"spec.data.fields.{kind}") from error
    return Row(content=content, truth=truth if isinstance(truth, str) else json.dumps(truth))
