"""What is claimed stands beside what was measured, and nothing beside what was not."""

import json
from pathlib import Path

import pytest

from bench.claims.claimed import CLAIMS
from bench.claims.report import claims, markdown, read_rows
from bench.claims.timing import paired, summary

MEASURED = {"measuredChange": -0.12, "low": -0.15, "high": -0.08, "accuracyChange": -0.011, "note": "9.00 -> 7.92 ms"}


def test_a_disturbance_that_falls_on_both_changes_nothing() -> None:
    quiet = [(0.010, 0.008)] * 10
    disturbed = [
        (base * factor, other * factor) for (base, other), factor in zip(quiet, [1, 2, 3, 5] * 3, strict=False)
    ]
    assert summary(disturbed).change == pytest.approx(-0.2)
    found = summary([(0.010, 0.008), (0.010, 0.009)] * 5)
    assert found.low < found.change < found.high


def test_the_two_take_turns() -> None:
    order: list[str] = []
    paired(lambda _: order.append("a"), lambda _: order.append("b"), calls=1, seconds=0.0)
    assert order == ["a", "b", *"abba", *"abba"]


def test_rows_have_what_was_measured_or_say_why_not(tmp_path: Path) -> None:
    (tmp_path / "bert-int8.json").write_text(json.dumps(MEASURED))
    measured = read_rows(tmp_path)
    rows = {(row["model"], row["technique"]): row for row in claims(measured)}
    assert len(rows) == len(CLAIMS)
    int8 = rows["BERT", "int8"]
    assert (int8["claimedChange"], int8["measuredChange"], int8["accuracyChange"]) == (-0.2, -0.12, -0.011)
    for row in rows.values():
        assert set(row) == {"model", "technique", "claimedChange", "measuredChange", "accuracyChange", "note"}
        assert row["measuredChange"] is not None or "not measured" in row["note"], row
    table = markdown(measured)
    assert "| BERT | int8 | T -20 % | -12% (-15% to -8%) | -0.011 | 9.00 -> 7.92 ms |" in table
    assert table.count("\n") == len(CLAIMS) + 1
