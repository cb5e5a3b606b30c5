"""The sidecar in front of a real HTTP server."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, unused_port

from cycle_server.drain import Drain
from cycle_server.protocol.timing import parse_timing
from cycle_server.sidecar.app import Sidecar
from cycle_server.tracing import Tracing
from cycle_wire.serving import SidecarConfig

URL = "/v2/models/m/infer"
DIGEST = "sha256:" + "a" * 64


@dataclass
class Upstream:
    """Answers with the number of the request; can be held up and told to fail."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    cancelled: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def infer(self, request: web.Request) -> web.Response:
        body = await request.text()
        self.headers.append(dict(request.headers))
        try:
            self.requests.append(json.loads(body))
        except ValueError:
            return web.json_response({"error": "body"}, status=400)
        number = len(self.requests)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.statuses:
            return web.json_response({"error": "shed"}, status=self.statuses.pop(0), headers={"Retry-After": "3"})
        answer = {"model_name": "m", "outputs": [{"data": [str(number)]}]}
        return web.json_response(answer, headers={"Server-Timing": "queue;dur=1.000, compute;dur=5.000"})

    async def ready(self, _request: web.Request) -> web.Response:
        return web.json_response({"ready": True})


@dataclass
class Pod:
    client: TestClient[web.Request, web.Application]
    upstream: Upstream
    drain: Drain
    tracing: Tracing | None

    async def ask(self, text: str = "a", *, headers: dict[str, str] | None = None, **fields: Any) -> tuple[str, str]:
        """Outcome and the number that the upstream gave its answer."""
        async with self.client.post(URL, data=body(text, **fields), headers=headers or {}) as response:
            answer = await response.json()
            assert response.status == 200, answer
            return response.headers["X-Cycle-Cache"], answer["outputs"][0]["data"][0]


def body(text: str, **fields: Any) -> bytes:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
    return json.dumps({"inputs": [tensor], **fields}).encode()


async def make_pod(**settings: Any) -> AsyncIterator[Pod]:
    upstream = Upstream()
    upstream.go.set()
    app = web.Application()
    app.router.add_post(URL, upstream.infer)
    app.router.add_get("/v2/health/ready", upstream.ready)
    server = TestServer(app, skip_url_asserts=True)
    await server.start_server()
    config = SidecarConfig(upstream=str(server.make_url("")), model_digest=DIGEST, variant="v", **settings)
    drain = Drain(drain_seconds=5, quiet_seconds=1)
    sidecar = Sidecar(config, drain=drain)
    sidecar_server = TestServer(sidecar.app())
    await sidecar_server.start_server()
    client = TestClient(sidecar_server)
    try:
        yield Pod(client=client, upstream=upstream, drain=drain, tracing=sidecar.tracing)
    finally:
        upstream.go.set()
        await client.close()
        await sidecar_server.close()
        await server.close()


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    async for made in make_pod():
        yield made


async def test_a_repeat_is_a_hit_with_the_requesters_own_id(pod: Pod) -> None:
    async with pod.client.post(URL, data=body("a", id="one")) as response:
        assert response.headers["X-Cycle-Cache"] == "miss"
        first = await response.json()
    async with pod.client.post(URL, data=body("a", id="two")) as response:
        assert response.headers["X-Cycle-Cache"] == "hit"
        second = await response.json()
    async with pod.client.post(URL, data=body("a")) as response:
        third = await response.json()
    assert first.pop("id") == "one"
    assert second.pop("id") == "two"
    assert first == second == third
    assert len(pod.upstream.requests) == 1
    assert "id" not in pod.upstream.requests[0]
    assert pod.upstream.headers[0]["X-Cycle-Cache"] == "miss"


async def test_timing_of_a_miss_and_of_a_hit(pod: Pod) -> None:
    async with pod.client.post(URL, data=body("a")) as response:
        miss = parse_timing(response.headers["Server-Timing"])
    async with pod.client.post(URL, data=body("a")) as response:
        hit = parse_timing(response.headers["Server-Timing"])
    assert miss["compute"] == 0.005
    assert 0 < miss["cache"] < 1
    assert set(hit) == {"cache"}


async def test_metrics_have_the_trace_as_exemplar_for_who_asks_for_openmetrics(pod: Pod) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    await pod.ask(headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    async with pod.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert f'trace_id="{trace}"' in await answer.text()
    async with pod.client.get("/metrics") as answer:
        assert trace not in await answer.text()


async def test_tenants_do_not_share_answers(pod: Pod) -> None:
    assert await pod.ask(headers={"X-Cycle-Tenant": "a"}) == ("miss", "1")
    assert await pod.ask(headers={"X-Cycle-Tenant": "b"}) == ("miss", "2")
    assert await pod.ask(headers={"X-Cycle-Tenant": "a"}) == ("hit", "1")


async def test_no_store_neither_reads_nor_writes_and_no_cache_refreshes(pod: Pod) -> None:
    no_store = {"Cache-Control": "max-age=0, No-Store"}
    assert await pod.ask(headers=no_store) == ("bypass", "1")
    assert await pod.ask() == ("miss", "2")
    assert await pod.ask(headers=no_store) == ("bypass", "3")
    assert await pod.ask() == ("hit", "2")
    assert await pod.ask(headers={"Cache-Control": "no-cache"}) == ("miss", "4")
    assert await pod.ask() == ("hit", "4")


async def test_only_200_answers_are_kept(pod: Pod) -> None:
    pod.upstream.statuses = [503, 500]
    for status in (503, 500):
        async with pod.client.post(URL, data=body("a")) as response:
            assert response.status == status
            assert response.headers["Retry-After"] == "3"
    assert await pod.ask() == ("miss", "3")


async def test_what_cannot_be_read_goes_to_the_server(pod: Pod) -> None:
    async with pod.client.post(URL, data=b"{") as response:
        assert response.status == 400
        assert response.headers["X-Cycle-Cache"] == "bypass"


async def test_the_same_question_at_once_is_asked_once(pod: Pod) -> None:
    pod.upstream.go.clear()
    tasks = [asyncio.create_task(pod.ask(id=str(i))) for i in range(8)]
    await asyncio.sleep(0.1)
    pod.upstream.go.set()
    outcomes = sorted(await asyncio.gather(*tasks))
    assert outcomes == [("coalesced", "1")] * 7 + [("miss", "1")]
    assert len(pod.upstream.requests) == 1


async def test_a_leader_that_leaves_does_not_break_the_others(pod: Pod) -> None:
    pod.upstream.go.clear()
    leader = asyncio.create_task(pod.ask())
    await asyncio.sleep(0.05)
    follower = asyncio.create_task(pod.ask())
    await asyncio.sleep(0.05)
    leader.cancel()
    await asyncio.sleep(0.05)
    pod.upstream.go.set()
    assert await follower == ("coalesced", "1")


async def test_when_all_leave_the_server_is_told(pod: Pod) -> None:
    pod.upstream.go.clear()
    with pytest.raises(TimeoutError):
        await pod.client.post(URL, data=body("a"), timeout=aiohttp.ClientTimeout(total=0.1))
    async with asyncio.timeout(2):
        while pod.upstream.cancelled == 0:  # noqa: ASYNC110 - the handler is elsewhere
            await asyncio.sleep(0.01)


async def test_followers_of_a_failed_leader_ask_themselves(pod: Pod) -> None:
    pod.upstream.go.clear()
    pod.upstream.statuses = [503]
    leader = asyncio.create_task(pod.client.post(URL, data=body("a"), headers={"X-Cycle-Deadline-Ms": "1"}))
    await asyncio.sleep(0.05)
    follower = asyncio.create_task(pod.ask())
    await asyncio.sleep(0.05)
    pod.upstream.go.set()
    assert (await leader).status == 503
    assert await follower == ("miss", "2")


async def test_the_deadline_goes_on_to_the_server(pod: Pod) -> None:
    await pod.ask(headers={"X-Cycle-Deadline-Ms": "70"})
    assert pod.upstream.headers[0]["X-Cycle-Deadline-Ms"] == "70"


async def test_readiness_is_the_servers_until_the_pod_goes_down(pod: Pod) -> None:
    async with pod.client.get("/v2/health/ready") as response:
        assert response.status == 200
    pod.drain.begin()
    async with pod.client.get("/v2/health/ready") as response:
        assert response.status == 503
    assert (await pod.ask())[0] == "miss"


async def test_metrics_count_outcomes(pod: Pod) -> None:
    for _ in range(3):
        await pod.ask()
    async with pod.client.get("/metrics") as response:
        text = await response.text()
    assert 'cycle_requests_total{code="200",outcome="hit"} 2.0' in text
    assert 'cycle_request_seconds_count{outcome="miss"} 1.0' in text
    assert "cycle_cache_entries 1.0" in text


@pytest.mark.parametrize("settings", [{"cacheable": False}, {"size_bytes": 0}])
async def test_a_cache_that_is_off_passes_everything_on(settings: dict[str, Any]) -> None:
    async for pod in make_pod(**settings):
        assert [await pod.ask() for _ in range(2)] == [("bypass", "1"), ("bypass", "2")]


async def test_a_server_that_is_down_is_a_503() -> None:
    config = SidecarConfig(upstream=f"http://127.0.0.1:{unused_port()}", model_digest=DIGEST, variant="v")
    sidecar = Sidecar(config, drain=Drain(drain_seconds=1, quiet_seconds=1))
    async with TestClient(TestServer(sidecar.app())) as client:
        async with client.post(URL, data=body("a")) as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"
        async with client.get("/v2/health/ready") as response:
            assert response.status == 503


async def test_too_large_a_body_is_refused(pod: Pod) -> None:
    async with pod.client.post(URL, data=body("x" * 1_100_000)) as response:
        assert response.status == 413
    assert pod.upstream.requests == []
