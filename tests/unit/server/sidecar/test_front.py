"""What comes over a connection, byte by byte: plain requests, and all that isn't."""

import asyncio
import json

import pytest

from tests.unit.server.sidecar.pods import URL, Pod, body

BODY = body("a")
HEAD = f"POST {URL} HTTP/1.1\r\nHost: pod\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()


class Wire:
    """A connection on which each byte is the test's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, pod: Pod) -> "Wire":
        return cls(*await asyncio.open_connection("127.0.0.1", pod.port))

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(5):
            status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            content = await self.reader.readexactly(int(headers["content-length"]))
        return int(status.split()[1]), headers, content

    async def ask(self, *parts: bytes) -> tuple[int, str, str]:
        """Status, outcome, and the number that the upstream gave its answer; ``parts`` are sent one by one."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0.005)
        status, headers, content = await self.answer()
        number = json.loads(content)["outputs"][0]["data"][0] if status == 200 else ""
        return status, headers.get("x-cycle-cache", ""), number

    async def closed(self) -> bool:
        async with asyncio.timeout(5):
            return await self.reader.read() == b""


async def test_a_request_may_come_in_any_pieces(pod: Pod) -> None:
    wire = await Wire.to(pod)
    whole = HEAD + BODY
    assert await wire.ask(whole) == (200, "miss", "1")
    assert await wire.ask(*(whole[i : i + 1] for i in range(len(whole)))) == (200, "hit", "1")
    assert await wire.ask(HEAD, BODY) == (200, "hit", "1")
    assert await wire.ask(HEAD[:20], HEAD[20:] + BODY[:5], BODY[5:]) == (200, "hit", "1")


async def test_pipelined_requests_are_all_answered_in_order(pod: Pod) -> None:
    other = body("b")
    second = HEAD.replace(b"%d" % len(BODY), b"%d" % len(other)) + other
    wire = await Wire.to(pod)
    wire.writer.write(HEAD + BODY + second + HEAD + BODY)
    numbers = [json.loads((await wire.answer())[2])["outputs"][0]["data"] for _ in range(3)]
    assert numbers == [["1"], ["2"], ["1"]]
    assert await wire.ask(second) == (200, "hit", "2")


async def test_what_comes_while_the_answer_is_made_waits_its_turn(pod: Pod) -> None:
    pod.upstream.go.clear()
    wire = await Wire.to(pod)
    wire.writer.write(HEAD + BODY)
    await asyncio.sleep(0.05)
    wire.writer.write(HEAD)
    await asyncio.sleep(0.05)
    wire.writer.write(BODY)
    await asyncio.sleep(0.05)
    pod.upstream.go.set()
    outcomes = [(await wire.answer())[1]["x-cycle-cache"] for _ in range(2)]
    assert outcomes == ["miss", "hit"]


@pytest.mark.parametrize(
    "head",
    [
        f"POST {URL} HTTP/1.1\r\nHost: pod\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
        f"POST {URL} HTTP/1.1\r\nHost: pod\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
        f"POST {URL} HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s",
        f"POST {URL} HTTP/1.1\r\nHost: pod\r\nX-Cycle-Tenant: \r\nx-cycle-tenant: b\r\nContent-Length: %d\r\n\r\n%s",
    ],
)
async def test_what_is_not_plain_is_answered_all_the_same(pod: Pod, head: str) -> None:
    wire = await Wire.to(pod)
    assert await wire.ask(HEAD + BODY) == (200, "miss", "1")
    assert await wire.ask((head % (len(BODY), BODY.decode())).encode()) == (200, "hit", "1")


async def test_after_expect_the_client_is_told_to_go_on(pod: Pod) -> None:
    wire = await Wire.to(pod)
    wire.writer.write(HEAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    async with asyncio.timeout(5):
        assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert await wire.ask(BODY) == (200, "miss", "1")
    assert await wire.ask(HEAD + BODY) == (200, "hit", "1")


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        HEAD.replace(b"Content-Length: ", b"Content-Length: -"),
        HEAD.replace(b"Host: pod", b"Content-Length: 3\r\nHost: pod"),
        HEAD.replace(b"Host: pod", b"Transfer-Encoding: chunked\r\nHost: pod") + BODY,
        HEAD.replace(b"Host: pod", b"X: " + b"y" * 20_000),
    ],
)
async def test_garbage_is_refused_and_the_connection_closed(pod: Pod, garbage: bytes) -> None:
    wire = await Wire.to(pod)
    assert await wire.ask(HEAD + BODY) == (200, "miss", "1")
    wire.writer.write(garbage)
    assert (await wire.answer())[0] == 400
    assert await wire.closed()
    assert await (await Wire.to(pod)).ask(HEAD + BODY) == (200, "hit", "1")


async def test_a_tenant_is_text(pod: Pod) -> None:
    wire = await Wire.to(pod)
    head = HEAD.decode().replace("Host: pod", "X-Cycle-Tenant: é\r\nHost: pod").encode()
    assert await wire.ask(head + BODY) == (200, "miss", "1")
    assert await wire.ask(head + BODY) == (200, "hit", "1")
    wire.writer.write(HEAD.replace(b"Host: pod", b"X-Cycle-Tenant: \xff\r\nHost: pod") + BODY)
    status, _, content = await wire.answer()
    assert (status, b"X-Cycle-Tenant" in content) == (400, True)


async def test_a_body_as_long_as_it_says_to_be_is_not_waited_for_when_it_is_too_long(pod: Pod) -> None:
    wire = await Wire.to(pod)
    wire.writer.write(HEAD.replace(b"%d" % len(BODY), b"99999999999") + b"x" * 2_000_000)
    status, _, content = await wire.answer()
    assert (status, b"longer than" in content) == (413, True)
    assert pod.upstream.requests == []


async def test_a_client_that_leaves_cancels_its_request(pod: Pod) -> None:
    pod.upstream.go.clear()
    wire = await Wire.to(pod)
    wire.writer.write(HEAD + BODY)
    await asyncio.sleep(0.05)
    wire.writer.close()
    async with asyncio.timeout(5):
        while not pod.upstream.cancelled:  # noqa: ASYNC110 - the handler is elsewhere
            await asyncio.sleep(0.01)


async def test_other_paths_of_the_same_connection(pod: Pod) -> None:
    wire = await Wire.to(pod)
    assert await wire.ask(HEAD + BODY) == (200, "miss", "1")
    wire.writer.write(b"GET /v2/health/ready HTTP/1.1\r\nHost: pod\r\n\r\n")
    assert (await wire.answer())[2] == b'{"ready": true}'
    assert await wire.ask(HEAD + BODY) == (200, "hit", "1")


async def test_answers_have_the_headers_of_http(pod: Pod) -> None:
    wire = await Wire.to(pod)
    for outcome in ("miss", "hit"):
        wire.writer.write(HEAD + BODY)
        _, headers, content = await wire.answer()
        assert headers["x-cycle-cache"] == outcome
        assert headers["content-type"].startswith("application/json")
        assert headers["date"].endswith("GMT")
        assert int(headers["content-length"]) == len(content)
        assert ("age" in headers) == (outcome == "hit")
