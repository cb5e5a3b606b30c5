"""The evaluation rows, as the trainer reads them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

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
    rows: list[Row[Content]] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if len(rows) == maximum_rows:
                    break
                if line.strip():
                    names = {kind: getattr(fields, kind), truth: getattr(fields, truth)}
                    rows.append(_row(line, names=names, convert=convert, where=f"{path}, line {number}"))
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise BadInputError(message, reason="DataNotFound", field="spec.data.evaluation") from error
    if not rows:
        raise BadInputError(f"{path} has no rows", reason="BadData", field="spec.data.evaluation")
    return rows


def _row(line: str, *, names: Mapping[str, str], convert: Callable[[object], Content], where: str) -> Row[Content]:
    """``names`` of the fields that hold content and truth, by what the spec calls them."""
    (kind, content_name), (_, truth_name) = names.items()
    try:
        record = json.loads(line)
    except ValueError as error:
        raise BadInputError(f"{where}: not JSON", reason="BadData", field="spec.data.evaluation") from error
    for field, name in names.items():
        if not isinstance(record, dict) or name not in record:
            raise BadInputError(f"{where}: no field {name!r}", reason="BadData", field=f"spec.data.fields.{field}")
    truth = record[truth_name]
    try:
        content = convert(record[content_name])
    except ValueError as error:
        message = f"{where}: field {content_name!r} {error}"
        raise BadInputError(message, reason="BadData", field=f"spec.data.fields.{kind}") from error
    return Row(content=content, truth=truth if isinstance(truth, str) else json.dumps(truth))
