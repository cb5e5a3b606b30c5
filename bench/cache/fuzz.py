"""Whether the cache ever gives anybody another's answer: `python -m bench.cache.fuzz --requests 100000`.

Two sidecars of two versions of a model, as in a rollout, share one real Redis and see the same questions from many
tenants at once: over HTTP, and over gRPC through a real HAProxy, written in ever other ways, with ids, broken, random,
from one byte to the limit, while answers end, memory is short, the server sheds, and Redis is killed and comes back.
The server behind them answers by a digest of all that may change an answer (path, tenant, version, texts, outputs,
parameters), so each answer tells whose it is. Each must be exactly what the server says to those bytes without a cache.
Prints what was seen; exits 1 at a wrong one.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import uvloop
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.cache.calls import Caller, Seen, message_of
from bench.cache.questions import Ask, Questions
from cycle_server.drain import Drain
from cycle_server.protocol import v2
from cycle_server.sidecar.app import Sidecar
from cycle_wire.headers import CACHE_HEADER, TENANT_HEADER
from cycle_wire.serving import CachePolicy, SharedCacheConfig, SidecarConfig
from tests.unit.server.sidecar.calls_door import calls_door
from tests.unit.server.sidecar.redis_server import RedisServer

WORKERS = 32
SHED_SHARE = 0.02
GRPC_SHARE = 0.25
_UNSAID = (("binary_data_output", False), ("binary_data", None))


def answer_of(ask: Ask, *, version: str) -> tuple[int, Any]:
    """Status and JSON that the server gives without a cache."""
    if len(ask.body) > v2.MAXIMUM_BODY_BYTES:
        return 413, None
    try:
        v2.parse_infer(ask.body)
    except v2.ProtocolError as error:
        return error.status, json.loads(error.body())
    request = json.loads(ask.body)
    default = [{"name": name} for name in v2.DEFAULT_OUTPUTS]
    # Not as the sidecar reads it: a default that is written and one that isn't are the same, all else is another.
    outputs = [[output["name"], _said(output)] for output in request.get("outputs", default)]
    tensor = request["inputs"][0]
    parameters = [_said(request), _said(tensor)]
    said = json.dumps([ask.path, ask.tenant, version, tensor["data"], outputs, parameters], sort_keys=True)
    data = [hashlib.sha256(said.encode()).hexdigest(), tensor["data"][0]]
    answer = {"model_name": "m", "outputs": [{"name": "label", "datatype": "BYTES", "shape": [2], "data": data}]}
    return 200, answer if request.get("id") is None else {**answer, "id": request["id"]}


def _said(part: dict[str, Any]) -> dict[str, Any]:
    """Its parameters but those of the binary extension as they are when nothing is said."""
    said = part.get("parameters", {}).items()
    return {name: value for name, value in said if (name, value) not in _UNSAID}


@dataclass
class Result:
    seen: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    bytes: int = 0


def server(version: str, chance: random.Random) -> web.Application:
    async def infer(request: web.Request) -> web.Response:
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random() * 0.004)
        if chance.random() < SHED_SHARE:
            return web.json_response({"error": "shed"}, status=503, headers={"Retry-After": "1"})
        ask = Ask(request.raw_path, request.headers.get(TENANT_HEADER, ""), {}, await request.read())
        status, answer = answer_of(ask, version=version)
        return web.json_response(answer, status=status)

    app = web.Application(client_max_size=2 * v2.MAXIMUM_BODY_BYTES)
    app.router.add_post("/v2/models/{model}/infer", infer)
    app.router.add_post("/v2/models/{model}/versions/{version}/infer", infer)
    return app


@contextlib.asynccontextmanager
async def sidecar(
    version: str, policy: CachePolicy, redis: RedisServer, chance: random.Random
) -> AsyncIterator["Client"]:
    """A client of one with little memory and short times to live."""
    upstream = TestServer(server(version, chance), skip_url_asserts=True)
    await upstream.start_server()
    config = SidecarConfig(
        upstream=str(upstream.make_url("")),
        grpc=True,
        model_digest="sha256:" + hashlib.sha256(version.encode()).hexdigest(),
        variant="v",
        policy=policy,
        size_bytes=600_000,
        ttl_seconds=2.0,
        shared=SharedCacheConfig(url_path=str(redis.url_file), scope="demo/m", ttl_seconds=4.0),
    )
    running = Sidecar(config, drain=Drain(drain_seconds=1, quiet_seconds=1))
    port = await running.start(host="127.0.0.1", port=0)
    try:
        with calls_door(port) as door:
            async with (
                aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=aiohttp.TCPConnector(limit=0)) as session,
                grpc.aio.insecure_channel(f"127.0.0.1:{door}") as channel,
            ):
                yield Client(version, session, Caller(channel))
    finally:
        await running.stop()
        await upstream.close()


@dataclass(frozen=True)
class Client:
    version: str
    session: aiohttp.ClientSession
    caller: Caller

    async def post(self, ask: Ask) -> Seen:
        headers = {TENANT_HEADER: ask.tenant, **ask.headers} if ask.tenant else dict(ask.headers)
        async with self.session.post(ask.path, data=ask.body, headers=headers) as response:
            content = await response.read()
            outcome = response.headers.get(CACHE_HEADER, "none")
            return Seen(outcome, response.status, json.loads(content) if response.status != 413 else None)


async def check(client: Client, ask: Ask, *, chance: random.Random, result: Result) -> None:
    status, expected = answer_of(ask, version=client.version)
    message = message_of(ask, raw=chance.random() < 0.5) if chance.random() < GRPC_SHARE else None
    seen = await client.post(ask) if message is None else await client.caller.ask(ask, message)
    result.seen[f"{seen.outcome} {seen.status}"] += 1
    result.bytes += len(ask.body)
    kept = seen.outcome.rpartition(" ")[2] in ("hit", "coalesced")
    if seen.status == 503 and seen.outcome != "hit":
        return
    right = seen.status == status and (expected is None or seen.content == expected)
    if ask.headers and kept and "no-cache" not in ask.headers.values():
        right = False  # it asked not to be answered from a cache
    if not right:
        asked = f"{ask.path} tenant {ask.tenant!r} version {client.version} {ask.headers}: {ask.body[:200]!r}"
        result.wrong.append(f"{asked} got {seen.outcome} {seen.status} {seen.content}, not {status} {expected}")


async def fuzz(*, requests: int, seed: int, policies: tuple[CachePolicy, CachePolicy]) -> Result:
    chance, result = random.Random(seed), Result()
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(Path(folder))
        redis.start()
        try:
            async with (
                sidecar("one", policies[0], redis, chance) as one,
                sidecar("two", policies[1], redis, chance) as two,
            ):
                asks = Questions(chance).stream(requests)
                trouble = asyncio.create_task(_restart_now_and_then(redis))
                await asyncio.gather(*(_work((one, two), asks, chance, result) for _ in range(WORKERS)))
                trouble.cancel()
        finally:
            redis.kill()
    return result


async def _work(clients: tuple[Client, Client], asks: Iterator[Ask], chance: random.Random, result: Result) -> None:
    for ask in asks:
        await check(chance.choice(clients), ask, chance=chance, result=result)


async def _restart_now_and_then(redis: RedisServer) -> None:
    while True:
        await asyncio.sleep(3)
        redis.kill()
        await asyncio.sleep(0.5)
        await asyncio.to_thread(redis.start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    policies = list(CachePolicy)
    pairs = tuple(zip(policies, policies[1:] + policies[:1], strict=True))[::2]  # each at least once
    wrong = 0
    for number, pair in enumerate(pairs):
        run = fuzz(requests=-(-options.requests // len(pairs)), seed=options.seed + number, policies=pair)
        result = uvloop.run(run)
        counts = ", ".join(f"{name}: {count}" for name, count in sorted(result.seen.items()))
        print(f"{' and '.join(pair)}: {sum(result.seen.values())} requests, {result.bytes / 1e6:.0f} MB: {counts}")
        print(f"  wrong answers: {len(result.wrong)}")
        for text in result.wrong[:10]:
            print(f"  {text}")
        wrong += len(result.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
