"""T = transport + cache + queue + pre + compute + post for every request: real HAProxy, real sidecar, real batcher."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
import pytest
from aiohttp import web
from multidict import CIMultiDictProxy

from cycle_server.batching.batcher import Batcher
from cycle_server.batching.cost import Cost
from cycle_server.batching.policy import Limits
from cycle_server.drain import Drain
from cycle_server.items import Items
from cycle_server.protocol import v2
from cycle_server.protocol.timing import TERMS, Stopwatch, parse_timing, server_headers
from cycle_server.sidecar.app import Sidecar
from cycle_wire.serving import SidecarConfig
from cycleops.service.haproxy_times import PAGES
from cycleops.service.histograms import parse
from tests.unit.service.conftest import Running, free_port

COMPUTE_SECONDS = 0.02


def compute(tokens: Items) -> np.ndarray:
    time.sleep(COMPUTE_SECONDS)
    return np.zeros((len(tokens), 2), dtype=np.float32)


def server(batcher: Batcher) -> web.Application:
    """The server's steps with a model that only takes its time."""

    async def infer(http_request: web.Request) -> web.Response:
        watch = Stopwatch()
        request = v2.parse_infer(await http_request.read())
        watch.lap("pre")
        computed = await batcher.submit([[0]], deadline=time.monotonic() + 10)
        watch.lap("queue", of_which={"compute": computed.compute_seconds})
        body = v2.infer_response(
            model_name="m", model_version="1", request=request, labels=["a"], probability=[1.0], probabilities=[[1.0]]
        )
        watch.lap("post")
        return web.Response(body=body, content_type="application/json", headers=server_headers(watch.terms))

    async def ready(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/v2/models/m/infer", infer), web.get("/v2/health/ready", ready)])
    return app


@dataclass(frozen=True)
class Answer:
    outside_seconds: float
    headers: CIMultiDictProxy[str]


@pytest.fixture
async def path(running: Running) -> AsyncIterator[Running]:
    """The balancer's only pod is a real sidecar before a real batcher."""
    for pod in running.pods:
        await pod.stop()
    batcher = Batcher(
        compute=compute,
        limits=Limits(maximum_batch_size=4, maximum_delay_seconds=0.0),
        cost=Cost(fixed_seconds=COMPUTE_SECONDS, token_seconds=0.0),
        queue_limit=64,
    )
    batcher.start()
    upstream_port, pod = free_port(), running.pods[0]
    config = SidecarConfig(upstream=f"http://127.0.0.1:{upstream_port}", model_digest="sha256:" + "a" * 64, variant="v")
    sidecar = Sidecar(config, drain=Drain(drain_seconds=0, quiet_seconds=0))
    runner = web.AppRunner(server(batcher))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", upstream_port).start()
    await sidecar.start(host=pod.address, port=pod.port)
    running.names.addresses[:] = [pod.address]
    await running.until(lambda up: up == 1)
    yield running
    await sidecar.stop()
    await runner.cleanup()
    await asyncio.to_thread(batcher.stop)


async def ask(path: Running, text: str, **headers: str) -> Answer:
    started = time.perf_counter()
    async with path.session.post(path.url, data=v2.infer_request(text), headers=headers) as response:
        assert response.status == 200, await response.text()
        await response.read()
        return Answer(time.perf_counter() - started, response.headers)


async def test_the_terms_of_every_request_add_up_to_the_balancers_total(path: Running) -> None:
    answers = [await ask(path, f"alone {i}") for i in range(5)]
    answers += [await ask(path, f"alone {i}") for i in range(5)]
    answers += await asyncio.gather(*(ask(path, f"many {i % 10}") for i in range(30)))
    answers += [await ask(path, "alone 1", **{"Cache-Control": "no-store"}) for _ in range(5)]
    for answer in answers:
        terms = parse_timing(answer.headers["Server-Timing"])
        total = terms.pop("total")
        assert set(terms) <= {"transport", "cache", *TERMS}
        # 2 % of T; each of at most 7 entries is rounded to a microsecond.
        assert sum(terms.values()) == pytest.approx(total, rel=0.02, abs=8e-6), answer.headers["Server-Timing"]
        assert total <= answer.outside_seconds
        if answer.headers["X-Cycle-Cache"] in ("miss", "bypass"):
            assert terms["compute"] >= COMPUTE_SECONDS
    outcomes = Counter(answer.headers["X-Cycle-Cache"] for answer in answers)
    assert (outcomes["miss"], outcomes["bypass"]) == (15, 5)
    assert outcomes["hit"] >= 5  # and of the 20 that ask what others do, those who come when its answer is there
    assert outcomes["hit"] + outcomes["coalesced"] == 25
    assert outcomes["coalesced"] > 0


async def test_the_operators_histogram_has_each_of_them_under_its_outcome(path: Running) -> None:
    await asyncio.gather(*(ask(path, f"many {i % 4}") for i in range(12)))
    await ask(path, "many 0")
    pages = [(await path.admin(page))[1] for page in PAGES]
    found = {series: sum(counts.values()) for series, counts in parse("".join(pages)).items()}
    assert found["service", "miss"] == 4
    assert found["service", "hit"] + found["service", "coalesced"] == 9
    assert found["overhead", ""] == 4 + found["service", "coalesced"]
