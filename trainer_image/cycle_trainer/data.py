"""Reading JSON lines with messages that name file, line and field. No torch here."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from cycle_server.images import ImageFormat, Images
from cycle_trainer.failures import BadInputError, uri_of
from cycle_wire.parts import Fields

TRAIN_FIELD = "spec.data.train"
EVALUATION_FIELD = "spec.data.evaluation"
SHOWN_NAMES = 8


@dataclass(frozen=True, slots=True)
class LabelledText:
    text: str
    label: str


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """``image`` (1, channels, height, width)."""

    image: Images
    label: str


@dataclass(frozen=True, slots=True)
class Pair:
    text: str
    translation: str


Labelled: TypeAlias = LabelledText | LabelledImage


@dataclass(frozen=True, slots=True)
class ItemSet:
    """What somebody has, each item once, and what of it is held out to be found; nothing in training data."""

    items: tuple[str, ...]
    held_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chat:
    """``messages`` have a role and a content each; ``where`` names file and line."""

    messages: list[dict[str, str]]
    where: str


def read_labelled_texts(
    path: Path, *, fields: Fields, spec_field: str, maximum_rows: int | None = None
) -> list[LabelledText]:
    """The (first) rows of a file of JSON lines. ``spec_field`` is what the spec calls the file.

    Raises BadInputError: DataNotFound for a missing file, BadData for the first line that isn't as it should be.
    """
    rows = [
        LabelledText(
            text=_text(record, name=fields.text, where=where),
            label=_label(record, name=fields.label, where=where),
        )
        for where, record in _records(path, spec_field=spec_field, maximum_rows=maximum_rows)
    ]
    _check_not_empty(rows, path=path, spec_field=spec_field)
    return rows


def read_labelled_images(
    path: Path, *, image_format: ImageFormat, fields: Fields, spec_field: str, maximum_rows: int | None = None
) -> list[LabelledImage]:
    """As ``read_labelled_texts``. Also BadData for an image that isn't of the model's size."""
    rows = [
        LabelledImage(
            image=_image(record, name=fields.image, where=where, image_format=image_format),
            label=_label(record, name=fields.label, where=where),
        )
        for where, record in _records(path, spec_field=spec_field, maximum_rows=maximum_rows)
    ]
    _check_not_empty(rows, path=path, spec_field=spec_field)
    return rows


def read_pairs(path: Path, *, fields: Fields, spec_field: str, maximum_rows: int | None = None) -> list[Pair]:
    """As ``read_labelled_texts``: texts and their translations."""
    rows = [
        Pair(
            text=_text(record, name=fields.text, where=where),
            translation=_text(record, name=fields.translation, where=where, kind="translation"),
        )
        for where, record in _records(path, spec_field=spec_field, maximum_rows=maximum_rows)
    ]
    _check_not_empty(rows, path=path, spec_field=spec_field)
    return rows


def read_item_sets(
    path: Path, *, fields: Fields, spec_field: str, held_out: bool, maximum_rows: int | None = None
) -> list[ItemSet]:
    """As ``read_labelled_texts``. ``held_out``: every line must have the field for what is held out too."""
    rows = []
    for where, record in _records(path, spec_field=spec_field, maximum_rows=maximum_rows):
        items = _items(record, name=fields.items, where=where, spec_field="spec.data.fields.items")
        wanted: tuple[str, ...] = ()
        if held_out:
            wanted = _items(record, name=fields.held_out, where=where, spec_field="spec.data.fields.heldOut")
            if both := sorted(set(items) & set(wanted)):
                message = f"{where}: {both[0]!r} is in {fields.items!r} and in {fields.held_out!r}"
                raise BadInputError("BadData", message, field="spec.data.fields.heldOut")
        rows.append(ItemSet(items=items, held_out=wanted))
    _check_not_empty(rows, path=path, spec_field=spec_field)
    return rows


def labels_of(rows: Sequence[Labelled], *, path: Path) -> list[str]:
    """Sorted. Raises BadInputError BadData when there is one only: nothing can be learned then."""
    labels = sorted({row.label for row in rows})
    if len(labels) < 2:
        message = f"{uri_of(path)} has one label only, {labels[0]!r}; two are needed"
        raise BadInputError("BadData", message, field="spec.data.fields.label")
    return labels


def read_texts_and_chats(
    path: Path, *, fields: Fields, spec_field: str, maximum_rows: int | None = None
) -> Iterator[str | Chat]:
    """A chat for every line that has the field for messages, else its text. Raises BadInputError as above."""
    empty = True
    for where, record in _records(path, spec_field=spec_field, maximum_rows=maximum_rows):
        empty = False
        if fields.messages in record:
            yield Chat(messages=_messages(record, name=fields.messages, where=where), where=where)
        else:
            yield _text(record, name=fields.text, where=where)
    if empty:
        raise BadInputError("BadData", f"{uri_of(path)} has no rows", field=spec_field)


def check_labels_known(labels: Sequence[str], *, evaluation: Sequence[Labelled], path: Path) -> None:
    """Raises BadInputError LabelNotInTraining for a label that only the evaluation file has."""
    known = set(labels)
    unseen = sorted({row.label for row in evaluation} - known)
    if not unseen:
        return
    line = next(number for number, row in enumerate(evaluation, start=1) if row.label == unseen[0])
    others = f" (and {len(unseen) - 1} more labels)" if len(unseen) > 1 else ""
    raise BadInputError(
        "LabelNotInTraining",
        f"{uri_of(path)}, row {line}: label {unseen[0]!r} is not in the training data{others}; "
        "add training rows with it or remove it from the evaluation data",
        field="spec.data.fields.label",
    )


def _check_not_empty(rows: Sequence[Labelled | Pair | ItemSet], *, path: Path, spec_field: str) -> None:
    if not rows:
        raise BadInputError("BadData", f"{uri_of(path)} has no rows", field=spec_field)


def _records(path: Path, *, spec_field: str, maximum_rows: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, record) of every line that isn't blank."""
    read = 0
    for number, line in _lines(path, spec_field=spec_field):
        if maximum_rows is not None and read >= maximum_rows:
            return
        if not line.strip():
            continue
        where = f"{uri_of(path)}, line {number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise BadInputError("BadData", f"{where}: not JSON: {error}", field=spec_field) from None
        if not isinstance(record, dict):
            message = f"{where}: a JSON object is needed, this is a {type(record).__name__}"
            raise BadInputError("BadData", message, field=spec_field)
        read += 1
        yield where, record


def _lines(path: Path, *, spec_field: str) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                yield number, line
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise BadInputError("DataNotFound", f"there is no file {uri_of(path)}", field=spec_field) from None
    except PermissionError:
        message = f"{uri_of(path)} can't be read: user 1000 or group 1000 needs permission"
        raise BadInputError("DataNotFound", message, field=spec_field) from None
    except UnicodeDecodeError as error:
        message = f"{uri_of(path)}, after line {number}: not UTF-8: {error.reason}"
        raise BadInputError("BadData", message, field=spec_field) from None


def _field(record: dict[str, Any], *, name: str, where: str, spec_field: str) -> Any:
    if name in record:
        return record[name]
    there = ", ".join(sorted(record)[:SHOWN_NAMES]) or "none"
    message = f"{where}: there is no field {name!r}; the line has: {there}. Name the right field in {spec_field}"
    raise BadInputError("BadData", message, field=spec_field)


def _text(record: dict[str, Any], *, name: str, where: str, kind: str = "text") -> str:
    spec_field = f"spec.data.fields.{kind}"
    value = _field(record, name=name, where=where, spec_field=spec_field)
    if not isinstance(value, str) or not value.strip():
        raise BadInputError("BadData", f"{where}: field {name!r} must be a text that isn't empty", field=spec_field)
    return value


def _image(record: dict[str, Any], *, name: str, where: str, image_format: ImageFormat) -> Images:
    spec_field = "spec.data.fields.image"
    value = _field(record, name=name, where=where, spec_field=spec_field)
    try:
        return image_format.read(value)
    except ValueError as error:
        raise BadInputError("BadData", f"{where}: field {name!r} {error}", field=spec_field) from None


def _items(record: dict[str, Any], *, name: str, where: str, spec_field: str) -> tuple[str, ...]:
    """Each once, in the order of the line."""
    value = _field(record, name=name, where=where, spec_field=spec_field)
    if not isinstance(value, list) or not value or not all(_is_item(item) for item in value):
        message = f"{where}: field {name!r} must be a list of items, texts that aren't empty or whole numbers"
        raise BadInputError("BadData", message, field=spec_field)
    return tuple(dict.fromkeys(str(item) for item in value))


def _is_item(value: Any) -> bool:
    return (isinstance(value, str) and value != "") or (isinstance(value, int) and not isinstance(value, bool))


def _messages(record: dict[str, Any], *, name: str, where: str) -> list[dict[str, str]]:
    value = record[name]
    good = isinstance(value, list) and value != [] and all(_is_message(item) for item in value)
    if not good:
        message = f"{where}: field {name!r} must be a list of {{role, content}} with texts that aren't empty"
        raise BadInputError("BadData", message, field="spec.data.fields.messages")
    return [{"role": item["role"], "content": item["content"]} for item in value]


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and all(isinstance(item.get(key), str) and item[key] for key in ("role", "content"))


def _label(record: dict[str, Any], *, name: str, where: str) -> str:
    spec_field = "spec.data.fields.label"
    value = _field(record, name=name, where=where, spec_field=spec_field)
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, int):  # also true and false
        return json.dumps(value)
    raise BadInputError("BadData", f"{where}: field {name!r} must be a text or a whole number", field=spec_field)
