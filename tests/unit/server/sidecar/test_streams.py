"""Generated text through the sidecar: passed on as it comes, kept when it is whole and would come again."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from cycle_server.drain import Drain
from cycle_server.protocol.timing import parse_timing
from cycle_server.sidecar.streams import READERS
from cycle_wire.serving import SidecarConfig
from tests.unit.server.sidecar.pods import DIGEST, running

GREEDY: dict[str, Any] = {"prompt": "a", "stream": True}
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "a"}], "temperature": 0}


@dataclass
class Model:
    """Tells numbered pieces, each when it is let; may cut an answer off or fail."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    pieces: int = 3
    cut: bool = False
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    gone: int = 0
    go: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(asked)
        if self.status != 200 or not asked.get("stream"):
            return web.json_response({"text": str(len(self.asked))}, status=self.status, headers=self.headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **self.headers})
        await response.prepare(request)
        try:
            for i in range(self.pieces):
                await self.go.acquire()
                await response.write(f'data: {{"text":"{len(self.asked)}.{i}"}}\n\n'.encode())
        except asyncio.CancelledError:
            self.gone += 1
            raise
        if self.cut:
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(b"data: [DONE]\n\n")
        return response

    def let(self, pieces: int) -> None:
        for _ in range(pieces):
            self.go.release()


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[tuple[aiohttp.ClientSession, Model]]:
    model = Model()
    app = web.Application()
    for path in READERS:
        app.router.add_post(path, model.answer)
    server = TestServer(app, skip_url_asserts=True)
    await server.start_server()
    config = SidecarConfig(upstream=str(server.make_url("")), model_digest=DIGEST, variant="v", **settings)
    try:
        async with running(config, drain=Drain(drain_seconds=5, quiet_seconds=1)) as (client, _):
            yield client, model
    finally:
        await server.close()


async def ask(
    client: aiohttp.ClientSession, body: Any, *, path: str = "/generate", headers: dict[str, str] | None = None
) -> tuple[str, str]:
    """Outcome and the whole answer."""
    async with client.post(path, data=json.dumps(body), headers=headers or {}) as response:
        return response.headers["X-Cycle-Cache"], await response.text()


async def test_pieces_come_one_by_one_and_a_whole_stream_is_told_again() -> None:
    async with served() as (client, model):
        async with client.post("/generate", json=GREEDY) as response:
            assert response.headers["X-Cycle-Cache"] == "miss"
            assert response.headers["Content-Type"] == "text/event-stream"
            told = []
            for i in range(3):
                model.let(1)
                told.append(await asyncio.wait_for(response.content.readuntil(b"\n\n"), 5))
                assert told[-1] == f'data: {{"text":"1.{i}"}}\n\n'.encode(), "before the next is made"
            assert await response.content.read() == b"data: [DONE]\n\n"
        async with client.post("/generate", json=GREEDY) as again:
            assert again.headers["X-Cycle-Cache"] == "hit"
            assert again.headers["Content-Type"] == "text/event-stream"
            assert set(parse_timing(again.headers["Server-Timing"])) == {"cache"}
            assert await again.read() == b"".join([*told, b"data: [DONE]\n\n"])
        assert len(model.asked) == 1


async def test_a_stream_and_a_whole_answer_are_two_entries() -> None:
    async with served() as (client, model):
        model.let(9)
        assert (await ask(client, GREEDY))[0] == "miss"
        assert await ask(client, {"prompt": "a"}) == ("miss", '{"text": "2"}')
        assert await ask(client, {"prompt": "a", "stream": False, "max_tokens": 64}) == ("hit", '{"text": "2"}')
        assert (await ask(client, GREEDY))[0] == "hit"


@pytest.mark.parametrize("fault", ["cut", "left"])
async def test_a_stream_that_breaks_off_is_never_kept_and_never_looks_whole(fault: str) -> None:
    async with served() as (client, model):
        model.cut = fault == "cut"
        model.let(3 if model.cut else 1)
        async with client.post("/generate", json=GREEDY) as response:
            if model.cut:
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()
            else:
                await response.content.readuntil(b"\n\n")
                response.close()
        if fault == "left":
            for _ in range(200):
                if model.gone:
                    break
                await asyncio.sleep(0.01)
            assert model.gone == 1, "the server is told that nobody reads on"
        model.cut = False
        model.let(9)
        assert (await ask(client, GREEDY))[0] == "miss"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"prompt": "a", "temperature": 0.5}),
        ("/generate", {"prompt": "a", "temperature": 0.5, "seed": 7}),
        ("/generate", {"prompt": 7}),
        ("/generate?x=1", {"prompt": "a"}),
        ("/v1/completions", {"model": "m", "prompt": "a"}),
        ("/v1/chat/completions", {**CHAT, "temperature": None}),
    ],
)
async def test_what_would_differ_or_cannot_be_read_goes_past(path: str, body: Any) -> None:
    async with served() as (client, model):
        assert [await ask(client, body, path=path) for _ in range(2)] == [
            ("bypass", '{"text": "1"}'),
            ("bypass", '{"text": "2"}'),
        ]
        assert model.asked == [body, body]


async def test_what_is_written_otherwise_is_the_same_question() -> None:
    async with served() as (client, _):
        same = [
            CHAT,
            {**CHAT, "n": 1, "stream": False, "user": "someone", "presence_penalty": 0},
            {**CHAT, "messages": [{"content": [{"type": "text", "text": "a"}], "role": "user"}]},
            {**CHAT, "temperature": 1.5, "top_k": 1, "seed": 3},
        ]
        path = "/v1/chat/completions"
        assert [(await ask(client, body, path=path))[0] for body in same] == ["miss", "hit", "hit", "hit"]
        others = [
            {**CHAT, "max_tokens": 5},
            {**CHAT, "stop": "b"},
            {**CHAT, "messages": [{"role": "system", "content": "a"}]},
        ]
        assert [(await ask(client, body, path=path))[0] for body in others] == ["miss"] * 3
        assert (await ask(client, CHAT, path=path, headers={"X-Cycle-Tenant": "b"}))[0] == "miss"
        assert (await ask(client, CHAT, path=path, headers={"Cache-Control": "no-store"}))[0] == "bypass"
        assert (await ask(client, CHAT, path=path, headers={"Cache-Control": "no-cache"}))[0] == "miss"


async def test_errors_and_what_the_server_forbids_are_not_kept() -> None:
    async with served() as (client, model):
        model.status = 503
        model.headers = {"Retry-After": "3"}
        async with client.post("/generate", json={"prompt": "a"}) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "3")
        model.status, model.headers = 200, {"Cache-Control": "no-store"}
        assert (await ask(client, {"prompt": "a"}))[0] == "miss"
        assert (await ask(client, {"prompt": "a"}))[0] == "miss"


async def test_a_variant_that_depends_on_neighbours_is_passed_on_only() -> None:
    async with served(cacheable=False) as (client, model):
        model.let(9)
        assert [(await ask(client, GREEDY))[0] for _ in range(2)] == ["bypass", "bypass"]
