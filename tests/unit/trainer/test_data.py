"""What reading data says about bad files: the reason, the place, and the spec field to mend."""

import json
from pathlib import Path

import pytest

from cycle_trainer.data import Chat, LabelledText, check_labels_known, read_labelled_texts, read_texts_and_chats
from cycle_trainer.failures import BadInputError, uri_of
from cycle_wire.parts import Fields

FIELDS = Fields(text="gloss", label="supersense")
GOOD = '{"gloss": "a dog", "supersense": "noun.animal"}\n'


def read(path: Path, content: bytes | None = None, maximum_rows: int | None = None) -> list[LabelledText]:
    if content is not None:
        path.write_bytes(content)
    return read_labelled_texts(path, fields=FIELDS, spec_field="spec.data.train", maximum_rows=maximum_rows)


def test_rows_in_order_without_blank_lines(tmp_path: Path) -> None:
    content = (
        GOOD + "\n" + '{"supersense": 7, "gloss": "caf\u00e9", "more": null}\n' + '{"gloss": "x", "supersense": true}'
    )
    rows = read(tmp_path / "rows", content.encode())
    assert rows == [LabelledText("a dog", "noun.animal"), LabelledText("caf\u00e9", "7"), LabelledText("x", "true")]


def test_lines_after_the_maximum_are_not_looked_at(tmp_path: Path) -> None:
    assert len(read(tmp_path / "rows", (GOOD * 2 + "not json\n").encode(), maximum_rows=2)) == 2


@pytest.mark.parametrize(
    ("content", "reason", "field", "words"),
    [
        (b"", "BadData", "spec.data.train", ["has no rows"]),
        (b"\n\n", "BadData", "spec.data.train", ["has no rows"]),
        (GOOD.encode() + b"gloss,supersense\n", "BadData", "spec.data.train", ["line 2", "not JSON"]),
        (b"[1, 2]\n", "BadData", "spec.data.train", ["line 1", "a JSON object is needed", "list"]),
        (GOOD.encode() + b'{"gloss": "caf\xe9"}\n', "BadData", "spec.data.train", ["not UTF-8"]),
        (
            GOOD.encode() + b'{"gloss": "x", "label": "y"}\n',
            "BadData",
            "spec.data.fields.label",
            ["line 2", "no field 'supersense'", "gloss, label"],
        ),
        (b'{"text": "x", "supersense": "y"}\n', "BadData", "spec.data.fields.text", ["line 1", "no field 'gloss'"]),
        (b'{"gloss": "  ", "supersense": "y"}\n', "BadData", "spec.data.fields.text", ["line 1", "'gloss'"]),
        (b'{"gloss": 5, "supersense": "y"}\n', "BadData", "spec.data.fields.text", ["line 1", "must be a text"]),
        (b'{"gloss": "x", "supersense": null}\n', "BadData", "spec.data.fields.label", ["line 1", "'supersense'"]),
        (b'{"gloss": "x", "supersense": 1.5}\n', "BadData", "spec.data.fields.label", ["line 1", "whole number"]),
    ],
)
def test_bad_content(tmp_path: Path, content: bytes, reason: str, field: str, words: list[str]) -> None:
    with pytest.raises(BadInputError) as caught:
        read(tmp_path / "rows.jsonl", content)
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert all(word in caught.value.message for word in ["rows.jsonl", *words])


@pytest.mark.parametrize("name", ["nowhere.jsonl", "."])
def test_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError, match="DataNotFound.*there is no file"):
        read(tmp_path / name)


def test_volumes_are_named_as_in_the_spec() -> None:
    assert uri_of(Path("/mnt/pvc/data/wordnet/train.jsonl")) == "pvc://data/wordnet/train.jsonl"
    assert uri_of(Path("/somewhere/else")) == "/somewhere/else"


def test_a_label_only_in_evaluation_is_named() -> None:
    rows = [LabelledText("x", "a"), LabelledText("y", "c"), LabelledText("z", "b")]
    with pytest.raises(BadInputError) as caught:
        check_labels_known(["a", "b"], evaluation=rows, path=Path("/mnt/pvc/data/evaluation.jsonl"))
    assert caught.value.reason == "LabelNotInTraining"
    assert caught.value.field == "spec.data.fields.label"
    assert "'c'" in caught.value.message and "pvc://data/evaluation.jsonl, row 2" in caught.value.message
    check_labels_known(["a", "b", "c"], evaluation=rows, path=Path("/x"))


def test_long_messages_fit_a_report() -> None:
    failure = BadInputError("BadData", "x" * 5000).report()
    assert len(failure.message) == 2000


def write_lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_a_line_is_a_chat_where_it_has_messages(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world", "weight": 1}]
    path = write_lines(tmp_path / "rows.jsonl", {"text": "a text"}, {"messages": messages}, {"text": "more"})
    first, chat, last = read_texts_and_chats(path, fields=Fields(), spec_field="spec.data.train")
    assert (first, last) == ("a text", "more")
    assert isinstance(chat, Chat)
    assert [message["content"] for message in chat.messages] == ["hello", "world"]
    assert chat.where.endswith("rows.jsonl, line 2")


@pytest.mark.parametrize(
    "messages", [[], "hello", [{"role": "user"}], [{"role": "user", "content": ""}], [["user", "hello"]]]
)
def test_a_chat_that_is_none_names_line_and_field(tmp_path: Path, messages: object) -> None:
    path = write_lines(tmp_path / "rows.jsonl", {"text": "a text"}, {"talk": messages})
    with pytest.raises(BadInputError, match="line 2: field 'talk' must be a list of") as caught:
        list(read_texts_and_chats(path, fields=Fields(messages="talk"), spec_field="spec.data.train"))
    assert caught.value.field == "spec.data.fields.messages"
