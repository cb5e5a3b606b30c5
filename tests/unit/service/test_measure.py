"""The real T read from real HTTP servers on addresses of their own, as pods have."""

import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from cycleops.service import measure
from cycleops.service.haproxy_times import PAGES
from cycleops.service.measure import PUBLISH_SECONDS, Measurer
from cycleops.service.observation import Measurement
from cycleops.service.rollout import Pod
from tests.unit.service.conftest import Running, free_port
from tests.unit.service.make import deployed

PERCENTILE = 99.0


class Server:
    """A server pod's metrics."""

    def __init__(self, address: str) -> None:
        self.pod = Pod(uid=address, name=f"pod-{address}", address=address, role="server", ready=True)
        self.broken = False
        self._registry = CollectorRegistry()
        self._seconds = Histogram("cycle_request_seconds", "T.", ["outcome"], registry=self._registry)
        # As the server exposes them, beside a T of its own that knows no hits.
        self._server = CollectorRegistry()
        self._own = Histogram("cycle_request_seconds", "T.", ["outcome"], registry=self._server)
        self._compute = Histogram("cycle_compute_seconds", "Of one batch.", ["outcome"], registry=self._server)

    def answer(self, count: int, *, seconds: float = 0.02, outcome: str = "miss") -> None:
        for _ in range(count):
            self._seconds.labels(outcome).observe(seconds)
            if outcome == "miss":
                self._own.labels(outcome).observe(seconds)
                self._compute.labels(outcome).observe(seconds / 2)

    async def metrics(self, _: web.Request) -> web.Response:
        text = "<html>" if self.broken else generate_latest(self._registry).decode()
        return web.Response(text=text)

    async def server_metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=generate_latest(self._server).decode())


@pytest.fixture
async def servers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Server]]:
    port = free_port()
    monkeypatch.setitem(measure._URLS, "server", (f":{port}/metrics", f":{port}/metrics/server"))
    found, runners = [Server("127.0.2.1"), Server("127.0.2.2")], []
    for server in found:
        app = web.Application()
        app.router.add_get("/metrics", server.metrics)
        app.router.add_get("/metrics/server", server.server_metrics)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, server.pod.address, port).start()
        runners.append(runner)
    yield found
    for runner in runners:
        await runner.cleanup()


async def look(measurer: Measurer, servers: list[Server], *, now: float, **changes: Any) -> Measurement:
    pods = [server.pod for server in servers]
    plan = deployed(**changes)
    return await measurer.measure("uid", pods=pods, deployed=plan, percentile=PERCENTILE, now=now)


async def test_what_pods_answered_since_the_last_round_is_measured(servers: list[Server]) -> None:
    measurer = Measurer()
    servers[0].answer(100, seconds=9.0)  # before the first round
    assert (await look(measurer, servers, now=100)).measured is None
    servers[0].answer(60)
    servers[1].answer(40, outcome="hit")
    measured = (await look(measurer, servers, now=115)).measured
    assert measured is not None
    assert (measured.requests, measured.hits, measured.window_seconds) == (100, 40, 15)
    assert measured.terms["total"].p99 < 30
    assert set(measured.terms) == {"total", "compute"}
    assert 5 <= measured.terms["compute"].p50 <= 10
    assert math.isclose(measured.requests_per_second, 100 / 15)


async def test_an_idle_service_publishes_nothing_new(servers: list[Server]) -> None:
    measurer = Measurer()
    await look(measurer, servers, now=0)
    servers[0].answer(50)
    published = [await look(measurer, servers, now=15.0 * i) for i in range(1, 200)]
    assert len({p.measured.ended_at for p in published[8:] if p.measured}) == 1
    assert published[-1] == published[8]


async def test_status_is_not_written_more_often_than_agreed(servers: list[Server]) -> None:
    measurer, seen = Measurer(), []
    for i in range(40):
        servers[0].answer(30)
        published = await look(measurer, servers, now=100.0 + 15.0 * i)
        if published.measured is not None and published.measured.ended_at not in seen:
            seen.append(published.measured.ended_at)
    assert all(b - a >= PUBLISH_SECONDS for a, b in zip(seen, seen[1:], strict=False))
    assert len(seen) == 20


async def test_one_unreadable_pod_is_left_out_and_none_is_stale(servers: list[Server]) -> None:
    measurer = Measurer()
    servers[1].broken = True
    await look(measurer, servers, now=0)
    servers[0].answer(30)
    measurement = await look(measurer, servers, now=40)
    assert measurement.measured is not None
    assert not measurement.stale
    servers[0].broken = True
    rounds = [await look(measurer, servers, now=55 + 15 * i) for i in range(4)]
    assert [bool(r.stale) for r in rounds] == [False, False, True, True]
    assert rounds[2] == rounds[3]
    servers[0].broken = False
    assert not (await look(measurer, servers, now=130)).stale


async def test_the_shared_cache_has_nothing_to_say_of_t(servers: list[Server]) -> None:
    measurer, cache = Measurer(), Pod(uid="c", name="cache", address="127.0.0.1", role="cache", ready=True)
    pods = [servers[0].pod, cache]

    async def round_at(now: float) -> Measurement:
        return await measurer.measure("uid", pods=pods, deployed=deployed(), percentile=PERCENTILE, now=now)

    await round_at(0)
    servers[0].answer(30)
    measured = (await round_at(40)).measured
    assert measured is not None
    assert measured.requests == 30


async def test_another_plan_starts_a_new_window(servers: list[Server]) -> None:
    measurer = Measurer()
    await look(measurer, servers, now=0)
    servers[0].answer(30, seconds=1.0)
    await look(measurer, servers, now=15)
    await look(measurer, servers, now=30, variant="fp32")
    servers[0].answer(30, seconds=0.002)
    measured = (await look(measurer, servers, now=60, variant="fp32")).measured
    assert measured is not None
    assert measured.terms["total"].p99 < 10


def test_a_round_is_due_after_the_interval_and_forgotten_services_leave_no_trace() -> None:
    measurer = Measurer()
    assert measurer.due("uid", now=0)
    measurer._watched["uid"] = measure._Watched(deployed=deployed(), scraped_at=100)
    assert not measurer.due("uid", now=105)
    assert measurer.due("uid", now=115)
    measurer.keep_only(set())
    assert not measurer._watched


async def test_arrivals_and_errors_are_the_balancers_own(
    running: Running, servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = tuple(f":{running.admin_port}{path}" for path in ("/metrics?scope=frontend", *PAGES))
    monkeypatch.setitem(measure._URLS, "balancer", pages)
    balancer = Pod(uid="b", name="balancer", address="127.0.0.1", role="balancer", ready=True)
    measurer, pods = Measurer(), [servers[0].pod, balancer]

    async def round_at(now: float) -> Measurement:
        return await measurer.measure("uid", pods=pods, deployed=deployed(), percentile=PERCENTILE, now=now)

    await round_at(0)
    for _ in range(5):
        await running.ask()
    running.names.addresses.clear()
    await running.until(lambda up: up == 0)
    assert (await running.ask())[0] == 503
    servers[0].answer(5)
    measured = (await round_at(40)).measured
    assert measured is not None
    assert (measured.requests, measured.errors) == (5, 1)
    assert math.isclose(measured.requests_per_second, 6 / 40)


async def test_t_is_the_balancers_and_the_overhead_is_what_no_term_has(
    running: Running, servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = tuple(f":{running.admin_port}{path}" for path in ("/metrics?scope=frontend", *PAGES))
    monkeypatch.setitem(measure._URLS, "balancer", pages)
    balancer = Pod(uid="b", name="balancer", address="127.0.0.1", role="balancer", ready=True)
    measurer, pods = Measurer(), [servers[0].pod, balancer]
    for pod in running.pods:  # 30 ms, of which 20 are of the terms
        pod.delay_seconds = 0.03
        pod.said = {"X-Cycle-Cache": "miss", "X-Cycle-Elapsed-Us": "25000", "X-Cycle-Terms-Us": "20000"}
    await measurer.measure("uid", pods=pods, deployed=deployed(), percentile=PERCENTILE, now=0)
    for _ in range(10):
        await running.ask()
    servers[0].answer(10, seconds=0.025)
    measured = (await measurer.measure("uid", pods=pods, deployed=deployed(), percentile=PERCENTILE, now=40)).measured
    assert measured is not None
    assert measured.requests == 10
    assert measured.terms["total"].p50 > 28  # the bucket that 30 ms and more are in
    assert measured.terms["overhead"].p50 > 8
    assert measured.terms["overhead"].p50 < measured.terms["total"].p50
    assert "pod" not in measured.terms
