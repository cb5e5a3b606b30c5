"""The demo's data: what becomes of WordNet's lines, and a split that keeps every gloss on one side."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[3]
LINES = """\
  1 This software and database is being provided to you, the LICENSEE, by Princeton University
00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 | that which is perceived; "it was full of rackets; balls"
00002137 05 n 01 dog 0 000 | a domestic animal; barks; "the dog barked"
00002452 13 n 01 quote 0 000 | "only an example"
"""


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare", REPOSITORY / "examples/demo_data/prepare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_glosses_without_licence_and_examples(prepare: ModuleType, tmp_path: Path) -> None:
    for part in ("verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text("")
    (tmp_path / "data.noun").write_text(LINES)
    assert list(prepare.glosses(tmp_path)) == [
        {"gloss": "that which is perceived", "supersense": "noun.Tops"},
        {"gloss": "a domestic animal; barks", "supersense": "noun.animal"},
    ]


def test_forty_five_classes(prepare: ModuleType) -> None:
    assert len(set(prepare.SUPERSENSES)) == 45
    assert prepare.SUPERSENSES[44] == "adj.ppl" and prepare.SUPERSENSES[29] == "verb.body"


def test_no_gloss_is_on_both_sides(prepare: ModuleType) -> None:
    rows = [{"gloss": f"gloss {n % 900}", "supersense": f"class {n % 7}"} for n in range(1000)]
    training, evaluation = prepare.split(iter(rows))
    glosses = [{row["gloss"] for row in part} for part in (training, evaluation)]
    assert not glosses[0] & glosses[1] and len(training) + len(evaluation) == 900
    assert 50 < len(evaluation) < 150
    assert prepare.split(iter(rows[::-1]))[1] != [] and prepare.split(iter(rows)) == (training, evaluation)
    # Not in the order of the source: the first rows are a sample.
    assert [row["gloss"] for row in training[:50]] != sorted(row["gloss"] for row in training)[:50]


def test_writing_again_changes_nothing(prepare: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a" / "rows.jsonl"
    prepare.write(path, b"one\n")
    first = path.stat()
    prepare.write(path, b"one\n")
    assert path.stat().st_mtime_ns == first.st_mtime_ns and first.st_mode & 0o777 == 0o644
    prepare.write(path, b"two\n")
    assert path.read_bytes() == b"two\n" and [p.name for p in path.parent.iterdir()] == ["rows.jsonl"]


def test_faults_have_one_thing_wrong_each(prepare: ModuleType, tmp_path: Path) -> None:
    rows = [{"gloss": f"gloss {n}", "supersense": f"class {n % 7}"} for n in range(800)]
    prepare.write_faults(tmp_path, training=rows, evaluation=rows[700:])
    lines = [json.loads(line) for line in (tmp_path / "missing-field.jsonl").read_text().splitlines()]
    assert [number for number, row in enumerate(lines, start=1) if "supersense" not in row] == [17]
    known = {json.loads(line)["supersense"] for line in (tmp_path / "train.jsonl").read_text().splitlines()}
    unseen = [json.loads(line)["supersense"] for line in (tmp_path / "unseen-label.jsonl").read_text().splitlines()]
    assert set(unseen) - known == {"noun.unseen"}
