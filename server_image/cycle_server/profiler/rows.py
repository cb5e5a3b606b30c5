"""The evaluation rows, as the trainer reads them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from cycle_server.errors import BadInputError
from cycle_wire.parts import Fields

Content = TypeVar("Content")


@dataclass(frozen=True)
class Row(Generic[Content]):
    content: Content
    label: str


def read_rows(
    path: Path, *, fields: Fields, kind: str, convert: Callable[[object], Content], maximum_rows: int | None
) -> list[Row[Content]]:
    """The first rows of a file of JSON lines; ``kind`` of content, text or image, as ``fields`` names it.

    Raises BadInputError: DataNotFound or BadData, also when ``convert`` raises ValueError.
    """
    rows: list[Row[Content]] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if len(rows) == maximum_rows:
                    break
                if line.strip():
                    rows.append(_row(line, fields=fields, kind=kind, convert=convert, where=f"{path}, line {number}"))
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise BadInputError(message, reason="DataNotFound", field="spec.data.evaluation") from error
    if not rows:
        raise BadInputError(f"{path} has no rows", reason="BadData", field="spec.data.evaluation")
    return rows


def _row(line: str, *, fields: Fields, kind: str, convert: Callable[[object], Content], where: str) -> Row[Content]:
    content_field: str = getattr(fields, kind)
    try:
        record = json.loads(line)
    except ValueError as error:
        raise BadInputError(f"{where}: not JSON", reason="BadData", field="spec.data.evaluation") from error
    for field, name in ((kind, content_field), ("label", fields.label)):
        if not isinstance(record, dict) or name not in record:
            raise BadInputError(f"{where}: no field {name!r}", reason="BadData", field=f"spec.data.fields.{field}")
    label = record[fields.label]
    try:
        content = convert(record[content_field])
    except ValueError as error:
        message = f"{where}: field {content_field!r} {error}"
        raise BadInputError(message, reason="BadData", field=f"spec.data.fields.{kind}") from error
    return Row(content=content, label=label if isinstance(label, str) else json.dumps(label))
