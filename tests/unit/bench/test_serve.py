"""bench/serve's own arithmetic: what it searches, and what it says of the numbers it found."""

import math
from pathlib import Path

import pytest

from bench.serve.rows import Row, read_json, table, to_records, verdict, write_json
from bench.serve.search import highest_rate


def row(server: str, *, identical: float, mixed: float, p99_seconds: float) -> Row:
    return Row(
        server,
        "server",
        identical=[identical, identical / 2],
        mixed=[mixed / 2, mixed],
        low_p50=[0.012, 0.010],
        at_80_p99=[p99_seconds],
        at_common_80_p99=[math.inf, p99_seconds],
    )


@pytest.mark.parametrize("limit", [40.0, 63.0, 99.0])
async def test_the_search_ends_just_below_the_true_rate(limit: float) -> None:
    async def holds(rate: float) -> bool:
        return rate <= limit

    found = await highest_rate(holds, saturated=100.0, steps=6)
    assert limit - 75 / 2**6 <= found <= limit


async def test_a_server_that_holds_no_rate_has_0() -> None:
    async def holds(_rate: float) -> bool:
        return False

    assert await highest_rate(holds, saturated=100.0, steps=4) == 0.0


async def test_one_disturbed_probe_does_not_lower_the_rate() -> None:
    seen: set[float] = set()

    async def holds_the_second_time(rate: float) -> bool:
        again = rate in seen
        seen.add(rate)
        return again

    assert await highest_rate(holds_the_second_time, saturated=100.0, steps=4) > 95


def test_the_better_pass_counts_and_what_never_came_is_null() -> None:
    direct = Row("direct", "-", identical=[50.0], low_p50=[0.009])
    lost = Row("KServe", "server", identical=[3.0], mixed=[0.0], low_p50=[0.02], at_common_80_p99=[math.inf])
    records = to_records([direct, row("ours", identical=48.0, mixed=120.0, p99_seconds=0.05), lost])
    ours, peer = records[1], records[2]
    assert (ours["throughputIdentical"], ours["throughputMixed"], ours["p50LowMs"]) == (48.0, 120.0, 10.0)
    assert (ours["addedP50LowMs"], ours["p99AtCommon80Ms"]) == (1.0, 50.0)
    assert (peer["p99At80Ms"], peer["p99AtCommon80Ms"]) == (None, None)
    assert len(table(records).splitlines()) == 4


def test_the_verdict_names_each_target_that_is_missed() -> None:
    direct = Row("direct", "-", identical=[50.0], low_p50=[0.009])
    ours = row("ours", identical=48.0, mixed=110.0, p99_seconds=0.06)
    peer = row("LitServe", identical=40.0, mixed=100.0, p99_seconds=0.05)
    missed = [line for line in verdict(to_records([direct, ours, peer])).splitlines() if line.startswith("MISSED")]
    assert [line.split(":")[0].removeprefix("MISSED").strip() for line in missed] == [
        "mixed / best peer",
        "p99 at 80 % of own / best peer",
        "p99 at common 80 % / best peer",
    ]


def test_rows_of_an_earlier_call_are_read_as_they_were(tmp_path: Path) -> None:
    direct = Row("direct", "-", identical=[50.0], low_p50=[0.009], resident_bytes=5 * 2**20)
    lost = Row("KServe", "server", at_80_p99=[math.inf], failures=["RuntimeError: no"], others=[0.25])
    rows = [direct, row("ours", identical=48.0, mixed=110.0, p99_seconds=0.06), lost]
    write_json(tmp_path / "serve.json", rows)
    assert read_json(tmp_path / "serve.json") == rows
    assert read_json(tmp_path / "none.json") == []


def test_what_failed_or_is_missing_is_said_and_takes_nothing_else_along() -> None:
    ours = Row("ours", "server", identical=[48.0], at_80_p99=[math.inf])
    peer = row("LitServe", identical=40.0, mixed=100.0, p99_seconds=0.05)
    peer.failures.append("RuntimeError: gone")
    lines = verdict(to_records([ours, peer])).splitlines()
    assert [line.split()[0] for line in lines] == ["not", "met", "not", "not", "MISSED", "not", "FAILED"]
    assert "LitServe: RuntimeError: gone" in lines[-1]
