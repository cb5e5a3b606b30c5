"""The load generator's arrivals, its sums, and a short run against a real HTTP server."""

import asyncio
import itertools
import json
import random
import statistics
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from cycle_server.load.arrivals import LengthDistribution, poisson, zipf
from cycle_server.load.report import Results, quantile_milliseconds, table
from cycle_server.load.run import LoadSettings, Population, Run, make_report
from cycle_wire.profile import Histogram


def test_poisson_arrivals_have_the_rate_and_its_variance() -> None:
    arrivals = list(poisson(rate=50, duration_seconds=400, seed=1))
    gaps = [b - a for a, b in itertools.pairwise(arrivals)]
    assert len(arrivals) == pytest.approx(20_000, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.05)
    assert arrivals == list(poisson(rate=50, duration_seconds=400, seed=1))
    assert arrivals != list(poisson(rate=50, duration_seconds=400, seed=2))


def test_lengths_have_the_quantiles_asked_for() -> None:
    source, lengths = random.Random(3), LengthDistribution(p50=16, p99=48)
    drawn = sorted(lengths.sample(source) for _ in range(20_000))
    assert drawn[10_000] == pytest.approx(16, abs=1)
    assert drawn[19_800] == pytest.approx(48, rel=0.06)


def test_popularity_is_zipf() -> None:
    ranks = list(itertools.islice(zipf(count=100, exponent=1.0, seed=4), 50_000))
    assert ranks.count(0) / ranks.count(9) == pytest.approx(10, rel=0.15)
    even = list(itertools.islice(zipf(count=10, exponent=0.0, seed=4), 50_000))
    assert min(even.count(rank) for rank in range(10)) > 4500


def test_quantiles_are_nearest_rank() -> None:
    times = [i / 1000 for i in range(1, 101)]
    assert quantile_milliseconds(times, 0.5) == 50.0
    assert quantile_milliseconds(times, 0.99) == 99.0
    assert quantile_milliseconds([0.004], 0.99) == 4.0
    assert quantile_milliseconds([], 0.99) == 0.0


def test_what_no_hop_accounts_for_is_other() -> None:
    results = Results()
    results.answered(total=0.010, outcome="miss", terms={"queue": 0.001, "compute": 0.006})
    results.answered(total=0.001, outcome="hit", terms={"cache": 0.0004})
    reports = results.term_reports()
    assert reports["miss"]["other"].p50_milliseconds == 3.0
    assert reports["hit"]["other"].p50_milliseconds == 0.6
    assert reports["all"]["total"].count == 2
    assert reports["all"]["total"].histogram == Histogram.of([0.010, 0.001])


async def test_a_run_counts_answers_outcomes_and_errors(tmp_path: Path) -> None:
    served = 0

    async def infer(_request: web.Request) -> web.Response:
        nonlocal served
        served += 1
        if served % 10 == 0:
            return web.json_response({"error": "shed"}, status=503)
        outcome = "hit" if served % 2 else "miss"
        headers = {"X-Cycle-Cache": outcome, "Server-Timing": "compute;dur=1.500, cache;dur=0.100"}
        await asyncio.sleep(0.004)
        return web.json_response({}, headers=headers)

    app = web.Application()
    app.router.add_post("/v2/models/m/infer", infer)
    async with TestServer(app) as server:
        settings = LoadSettings(
            url=str(server.make_url("")).rstrip("/"),
            model="m",
            rate=100,
            duration_seconds=2,
            warm_up_seconds=0,
            data=tmp_path,
            field="text",
            tokenizer=tmp_path,
            lengths=LengthDistribution(p50=16, p99=48),
            distinct=2,
            zipf=1.0,
            seed=0,
            timeout_seconds=5,
            report=None,
        )
        population = Population(bodies=[b"{}", b"{} "], lengths=[5, 7])
        results, lengths = await Run(settings, population).run()
    report = make_report(settings, population, results, lengths)
    assert report.requests == served == len(list(poisson(rate=100, duration_seconds=2, seed=0)))
    assert report.errors_by_kind == {"HTTP 503": served // 10}
    assert report.outcomes["hit"] + report.outcomes["miss"] == served - report.errors
    assert report.terms["all"]["compute"].p50_milliseconds == 1.5
    assert report.terms["miss"]["total"].p50_milliseconds > 4
    assert report.send_lag.count == served
    assert "miss" in table(report)
    assert json.loads(report.to_json())["tokenLengths"]["p50"] in (5, 7)
