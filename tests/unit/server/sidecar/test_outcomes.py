"""What requests are answered with: hit, miss, coalesced, bypass, and what is kept."""

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import unused_port

from cycle_server.drain import Drain
from cycle_server.protocol import v2
from cycle_server.protocol.timing import parse_timing
from cycle_wire.serving import SidecarConfig
from tests.unit.server.sidecar.pods import DIGEST, URL, Pod, body, make_pod, running


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
    async with running(config, drain=Drain(drain_seconds=1, quiet_seconds=1)) as (client, _):
        async with client.post(URL, data=body("a")) as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"
        async with client.get("/v2/health/ready") as response:
            assert response.status == 503


async def test_too_large_a_body_is_refused(pod: Pod) -> None:
    async with pod.client.post(URL, data=body("x" * 1_100_000)) as response:
        assert response.status == 413
    assert pod.upstream.requests == []


async def test_a_body_that_would_be_too_long_written_anew_goes_to_the_server_as_it_is(pod: Pod) -> None:
    head, tail = b'{"parameters":{"n":1e15},"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["', b'"]}]}'
    longest = head + b"x" * (v2.MAXIMUM_BODY_BYTES - len(head + tail)) + tail  # 1e15 gets more digits
    async with pod.client.post(URL, data=longest) as response:
        assert (response.status, response.headers["X-Cycle-Cache"]) == (200, "bypass")
