"""Load for `python -m bench.cache`, as a process of its own on a core of its own.

    closed  as fast as it goes over a few connections: the most answers per second
    open    Poisson arrivals at a rate; each latency counts from the moment the request should have left, so a server
            that stalls is charged for all who wait (no coordinated omission)

Prints one JSON object: {"perSecond", "p50Ms", "p99Ms", "bad"}. `bad`: answers that weren't 200.
"""

import argparse
import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import cast

import uvloop

CONNECTIONS = 32


class Connection(asyncio.Protocol):
    """One request at a time; ``answered`` gets whether it was a 200."""

    def __init__(self, answered: Callable[["Connection", bool], None]) -> None:
        self._answered = answered
        self._buffer = b""
        self.intended = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes, *, intended: float) -> None:
        self.intended = intended
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        place = head.lower().index(b"content-length:") + 15
        length = int(head[place:].split(b"\r\n", 1)[0])
        if len(body) >= length:
            self._buffer = b""
            self._answered(self, head.startswith(b"HTTP/1.1 200"))


class Load:
    def __init__(self, requests: list[bytes], *, seed: int) -> None:
        self._requests = requests
        self._chance = random.Random(seed)
        self._free: deque[Connection] = deque()
        self._waiting: deque[float] = deque()  # intended moments
        self._latencies: list[float] = []
        self._bad = 0
        self._closed_until = 0.0

    async def run(self, port: int, *, seconds: float, rate: float | None) -> dict[str, float]:
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            _, connection = await loop.create_connection(lambda: Connection(self._answered), "127.0.0.1", port)
            self._free.append(connection)
        started = time.perf_counter()
        if rate is None:
            self._closed_until = started + seconds
            while self._free:
                self._ask(self._free.popleft(), time.perf_counter())
            await asyncio.sleep(seconds)
        else:
            await self._arrivals(started, seconds=seconds, rate=rate)
        took = time.perf_counter() - started
        latencies = sorted(self._latencies)
        return {
            "perSecond": len(latencies) / took,
            "p50Ms": 1000 * latencies[len(latencies) // 2],
            "p99Ms": 1000 * latencies[int(0.99 * len(latencies))],
            "bad": self._bad,
        }

    async def _arrivals(self, started: float, *, seconds: float, rate: float) -> None:
        at = started
        while at < started + seconds:
            now = time.perf_counter()
            while at <= now:
                if self._free:
                    self._ask(self._free.popleft(), at)
                else:
                    self._waiting.append(at)
                at += self._chance.expovariate(rate)
            await asyncio.sleep(0)  # timers are a millisecond coarse: this core does nothing else
        while self._waiting or len(self._free) < CONNECTIONS:  # noqa: ASYNC110 - the last answers
            await asyncio.sleep(0.001)

    def _ask(self, connection: Connection, intended: float) -> None:
        connection.ask(self._chance.choice(self._requests), intended=intended)

    def _answered(self, connection: Connection, good: bool) -> None:
        now = time.perf_counter()
        self._latencies.append(now - connection.intended)
        self._bad += not good
        if now < self._closed_until:
            self._ask(connection, now)
        elif self._waiting:
            self._ask(connection, self._waiting.popleft())
        else:
            self._free.append(connection)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, help="per second; without it closed")
    parser.add_argument("--requests", type=Path, required=True, help="JSON list of whole HTTP requests")
    options = parser.parse_args()
    requests = [text.encode() for text in json.loads(options.requests.read_text())]
    print(json.dumps(uvloop.run(Load(requests, seed=1).run(options.port, seconds=options.seconds, rate=options.rate))))


if __name__ == "__main__":
    main()
