"""How the bench judges, and what it writes."""

import json
from pathlib import Path
from typing import Any

from bench.planner.policies import HPA, LLMD, OURS, STATIC, verdict, write


def row(policy: str, attainment: float, hours: float) -> dict[str, Any]:
    return {"trace": "step", "policy": policy, "setting": "", "attainment": attainment, "replicaHours": hours}


def test_the_target_is_two_per_cent_above_the_fewest_hours_that_reach_the_goal() -> None:
    static, lean = row(STATIC, 1.0, 42.0), row(HPA, 0.97, 20.0)
    assert "met" in verdict([row(OURS, 0.991, 30.5), static, lean, row(LLMD, 0.992, 30.0)], "step")
    assert "MISSED" in verdict([row(OURS, 0.991, 30.7), static, lean, row(LLMD, 0.992, 30.0)], "step")
    assert "MISSED" in verdict([row(OURS, 0.989, 20.0), static, lean, row(LLMD, 0.992, 30.0)], "step")


def test_where_nobody_reaches_it_the_most_below_the_static_hours_counts() -> None:
    static = row(STATIC, 1.0, 42.0)
    assert "met" in verdict([row(OURS, 0.98, 30.0), static, row(HPA, 0.97, 41.0), row(LLMD, 0.985, 43.0)], "step")
    assert "MISSED" in verdict([row(OURS, 0.98, 30.0), static, row(HPA, 0.985, 41.0)], "step")


def test_what_is_written_replaces_only_its_own_traces(tmp_path: Path) -> None:
    file = tmp_path / "planner.json"
    other = {"trace": "ramp", "policy": OURS, "attainment": 0.99, "replicaHours": 1.0}
    file.write_text(json.dumps({"planSeconds": 1.0, "policies": [other]}))
    write([row(OURS, 0.991, 30.0)], file)
    write([row(OURS, 0.992, 31.0)], file)
    content = json.loads(file.read_text())
    assert content["planSeconds"] == 1.0
    assert content["policies"] == [
        other,
        {"trace": "step", "policy": OURS, "attainment": 0.992, "replicaHours": 31.0},
    ]
