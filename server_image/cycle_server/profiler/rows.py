"""The evaluation rows, as the trainer reads them."""

import json
from dataclasses import dataclass
from pathlib import Path

from cycle_server.errors import BadInputError
from cycle_wire.parts import Fields


@dataclass(frozen=True)
class Row:
    text: str
    label: str


def read_rows(path: Path, *, fields: Fields, maximum_rows: int | None) -> list[Row]:
    """The first rows of a file of JSON lines. Raises BadInputError: DataNotFound or BadData."""
    rows: list[Row] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if len(rows) == maximum_rows:
                    break
                if line.strip():
                    rows.append(_row(line, fields=fields, where=f"{path}, line {number}"))
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise BadInputError(message, reason="DataNotFound", field="spec.data.evaluation") from error
    if not rows:
        raise BadInputError(f"{path} has no rows", reason="BadData", field="spec.data.evaluation")
    return rows


def _row(line: str, *, fields: Fields, where: str) -> Row:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise BadInputError(f"{where}: not JSON", reason="BadData", field="spec.data.evaluation") from error
    for kind, name in (("text", fields.text), ("label", fields.label)):
        if not isinstance(record, dict) or name not in record:
            raise BadInputError(f"{where}: no field {name!r}", reason="BadData", field=f"spec.data.fields.{kind}")
    label = record[fields.label]
    return Row(text=str(record[fields.text]), label=label if isinstance(label, str) else json.dumps(label))
