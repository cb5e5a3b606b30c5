"""What is said of predictions and measurements, and the load's own arithmetic."""

import asyncio
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from bench.planner.validate.files import Files
from bench.planner.validate.generator import half_width, open_loop, session
from bench.planner.validate.judge import rows, verdict
from bench.planner.validate.popularity import hit_ratio
from bench.planner.validate.scenarios import SCENARIOS, choose
from cycleops.planner import Algorithm

SCORED = [scenario for scenario in SCENARIOS if scenario.scored]


def predicted(name: str, p99: float | None = 20.0, **changed: Any) -> dict[str, Any]:
    row = {"name": name, "predictedAt": "2026-11-25T10:00:00", "ratePerSecond": 100.0, "hitRatio": 0.0}
    return {**row, "budgetMs": 30.0, "predictedMet": True, "predictedP50Ms": 5.0, "predictedP99Ms": p99, **changed}


def measured(name: str, p99: float, **changed: Any) -> dict[str, Any]:
    row = {"name": name, "measuredAt": "2026-11-25T10:05:00", "requests": 9000, "errors": 0, "p50Ms": 5.0}
    return {**row, "p99Ms": p99, "halfWidth": 0.03, "hitRatio": 0.0, "otherLoad": 0.0, **changed}


def found(misses: list[float], **changed: Any) -> list[dict[str, Any]]:
    pairs = list(zip(SCORED, misses, strict=False))
    said = [predicted(scenario.name) for scenario, _ in pairs]
    seen = [measured(scenario.name, 20.0 * (1 + error), **changed) for scenario, error in pairs]
    return rows(SCENARIOS, said, seen)


def met(misses: list[float], **changed: Any) -> list[bool]:
    return [one for one, _ in verdict(found(misses, **changed))]


def test_the_scenarios_cover_what_was_asked() -> None:
    assert len(SCORED) >= 12
    assert len({scenario.name for scenario in SCENARIOS}) == len({scenario.seed for scenario in SCENARIOS})
    assert all(0.2 <= scenario.load <= 0.7 for scenario in SCORED)
    assert {scenario.algorithm for scenario in SCORED if scenario.replicas > 1} == set(Algorithm)
    assert len({scenario.variant for scenario in SCORED}) >= 3
    unscored = [scenario for scenario in SCENARIOS if not scenario.scored]
    assert {scenario.load for scenario in unscored if scenario.cpu_limit_cores is None} == {0.8, 0.9}
    assert any(scenario.cpu_limit_cores is not None for scenario in unscored)
    assert any(scenario.zipf for scenario in SCORED)
    assert any(scenario.cv2 > 1 for scenario in SCORED) and any(scenario.rhythm for scenario in SCORED)


def test_all_targets_are_met() -> None:
    assert met([0.05] * 10 + [-0.3, 0.4]) == [True, True, True, True]


def test_three_large_errors_of_twelve_are_too_many() -> None:
    assert met([0.05] * 9 + [0.2] * 3) == [True, True, False, True]


def test_the_median_counts_misses_to_both_sides() -> None:
    assert met([0.12] * 6 + [-0.12] * 6) == [True, False, True, True]


def test_an_undecided_scenario_is_no_success() -> None:
    assert met([0.0] * 12, halfWidth=0.06) == [True, False, False, True]
    assert met([0.0] * 12, halfWidth=math.inf) == [True, False, False, True]
    assert met([0.0] * 12, errors=1) == [True, False, False, True]


def test_a_broken_budget_counts_only_with_a_margin() -> None:
    name = SCORED[0].name
    for budget, fine in ((30.0, False), (23.0, True)):  # predicted 20: a margin of 33 and of 13 %
        one = rows(SCENARIOS, [predicted(name, budgetMs=budget)], [measured(name, 31.0)])
        assert verdict(one)[-1][0] is fine


def test_a_budget_that_an_unscored_scenario_broke_is_no_miss() -> None:
    unscored = next(scenario.name for scenario in SCENARIOS if not scenario.scored)
    [row] = rows(SCENARIOS, [predicted(unscored)], [measured(unscored, 31.0)])
    assert verdict([*found([0.0] * 12), row])[-1][0] is True
    assert verdict([*found([0.0] * 12), {**row, "scored": True}])[-1][0] is False


def test_fewer_than_twelve_are_too_few() -> None:
    assert met([0.0] * 11)[0] is False


def test_a_measurement_from_before_the_prediction_is_none() -> None:
    name = SCORED[0].name
    assert rows(SCENARIOS, [predicted(name, predictedAt="2026-11-25T10:05:01")], [measured(name, 20.0)]) == []


def test_a_scenario_without_a_prediction_is_a_miss() -> None:
    name = SCORED[0].name
    [row] = rows(SCENARIOS, [predicted(name, None, predictedMet=False)], [measured(name, 20.0)])
    assert row["p99Error"] is None
    assert [one for one, _ in verdict([row])][1:3] == [False, False]


def test_unknown_names_are_said() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        choose(["nonsense"])


def test_rows_of_a_name_are_replaced(tmp_path: Path) -> None:
    files = Files(tmp_path / "planner")
    files.add_measured({"name": "a", "p99Ms": 1})
    files.add_measured({"name": "b", "p99Ms": 2})
    files.add_measured({"name": "a", "p99Ms": 3})
    assert {row["name"]: row["p99Ms"] for row in files.measured()} == {"a": 3, "b": 2}


def test_a_profile_is_fresh_only_with_its_way(tmp_path: Path) -> None:
    files = Files(tmp_path / "planner")
    files.profile("fp32").write_text("{}")
    assert not files.is_fresh("fp32", minutes=1)
    files.way("fp32").write_text("{}")
    assert files.is_fresh("fp32", minutes=1)
    assert not files.is_fresh("fp32", minutes=0)


def test_more_repeats_give_more_hits() -> None:
    mild, lower = hit_ratio(0.7, requests=5_000)
    steep, _ = hit_ratio(1.1, requests=5_000)
    assert 0 < lower < mild < steep < 1


def test_the_half_width_needs_answers() -> None:
    times = np.random.default_rng(0).exponential(size=20_000)
    assert half_width(times) < 0.1
    assert half_width(times[:999]) == math.inf
    assert half_width(np.where(np.arange(20_000) % 50 == 0, np.inf, times)) == math.inf


async def test_the_open_loop_counts_from_the_intended_moment() -> None:
    """Against a server that answers one request at a time, each after 20 ms: the last of three waits for two."""
    turn = asyncio.Lock()

    async def answer(_request: web.Request) -> web.Response:
        async with turn:
            await asyncio.sleep(0.02)
        return web.Response(headers={"Server-Timing": "queue;dur=1.5, total;dur=2.5", "X-Cycle-Cache": "miss"})

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with session() as client:
            seen = await open_loop(
                client,
                f"http://127.0.0.1:{port}/",
                moments=np.array([0.01, 0.011, 0.012]),
                body_of=lambda _: b"{}",
                least_seconds=1.0,
            )
    finally:
        await runner.cleanup()
    assert seen.outcome == ["miss"] * 3
    assert seen.total.max() > 0.057
    assert (seen.lag < seen.total).all()
    assert seen.terms["queue"] == pytest.approx([0.0015] * 3)
