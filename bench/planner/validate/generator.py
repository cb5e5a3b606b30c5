"""Open-loop load on a core of its own.

A thread wakes the event loop at each intended moment: an event loop's timers are a millisecond coarse, and polling for
the moment would take the core from HAProxy.
"""

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from numpy.typing import NDArray

from bench.planner.validate.scenarios import WANTED_HALF_WIDTH
from cycle_server.protocol.timing import HEADER as TIMING_HEADER
from cycle_server.protocol.timing import parse_timing
from cycleops.planner.simulation import intervals

TIMEOUT_SECONDS = 30.0
LOOK_SECONDS = 5.0
FEWEST = 1000  # ten batches whose p99 is one of their values
TERMS = ("queue", "pre", "compute", "post", "cache", "total")
JSON = {"Content-Type": "application/json"}

Array = NDArray[np.float64]


@dataclass
class Seen:
    """One entry per request in order of the intended moments; seconds. A request that failed is infinitely late.

    ``total``: from the intended moment to the answer; ``terms``: as the answer says, ``total`` being the balancer's.
    """

    intended: Array
    lag: Array
    total: Array
    terms: dict[str, Array]
    outcome: list[str] = field(default_factory=list)
    sent: int = 0

    @classmethod
    def of(cls, intended: Array) -> "Seen":
        count = len(intended)
        nothing = {term: np.zeros(count) for term in TERMS}
        return cls(intended, np.zeros(count), np.full(count, np.inf), nothing, [""] * count)

    def first(self, count: int) -> "Seen":
        terms = {term: values[:count] for term, values in self.terms.items()}
        return Seen(self.intended[:count], self.lag[:count], self.total[:count], terms, self.outcome[:count], count)


Ask = Callable[[ClientSession, str, bytes, int, float, Seen], Coroutine[Any, Any, None]]


def session() -> ClientSession:
    return ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=TIMEOUT_SECONDS))


async def preload(client: ClientSession, url: str, bodies: Sequence[bytes], *, concurrency: int = 4) -> None:
    """All of them, as fast as they are answered. Raises RuntimeError when one isn't answered with 200."""
    left = iter(bodies)

    async def work() -> None:
        for body in left:
            async with client.post(url, data=body, headers=JSON) as response:
                if response.status != 200:
                    raise RuntimeError(f"{url} answered {response.status}: {await response.text()}")
                await response.read()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())


async def open_loop(
    client: ClientSession,
    url: str,
    *,
    moments: Array,
    body_of: Callable[[int], bytes],
    least_seconds: float,
    enough: float = WANTED_HALF_WIDTH,
    ask: Ask | None = None,
) -> Seen:
    """Sends request i at ``moments[i]`` (seconds from now on, rising) until they are over, or until, after
    ``least_seconds``, the half-width of the 95 % interval of p99 is at most a share ``enough`` of it.
    ``ask``: asks one and writes down what it saw.
    """
    seen, loop, stop = Seen.of(moments), asyncio.get_running_loop(), threading.Event()
    tasks: set[asyncio.Task[None]] = set()
    gc.collect()  # before the clock starts: with torch on the heap it takes a quarter of a second
    gc.disable()  # a pause of it would look like one of the service
    begun = time.perf_counter() + 0.05

    def send(index: int) -> None:
        task = loop.create_task((ask or _ask)(client, url, body_of(index), index, begun + moments[index], seen))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        seen.sent = index + 1

    def clock() -> None:
        for index, moment in enumerate(moments):
            if stop.is_set():
                return
            left = begun + moment - time.perf_counter()
            if left > 0:
                time.sleep(left)
            loop.call_soon_threadsafe(send, index)

    thread = threading.Thread(target=clock, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            await asyncio.sleep(min(LOOK_SECONDS, max(float(moments[-1]) / 20, 0.05)))
            passed = time.perf_counter() - begun
            if passed >= least_seconds and half_width(seen.total[: _settled(seen, passed)]) <= enough:
                break
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)
        gc.enable()
    await asyncio.sleep(0)
    while tasks:
        await asyncio.wait(tasks)
    return seen.first(seen.sent)


def _settled(seen: Seen, passed: float) -> int:
    """Requests that were meant to be sent more than a second ago."""
    return int(np.searchsorted(seen.intended, passed - 1.0))


def half_width(total: Array) -> float:
    """Of the 95 % interval of p99 by batch means, as a share of p99. Infinite with few requests or failed ones."""
    if len(total) < FEWEST or np.isinf(total).any():
        return np.inf
    estimate = intervals.quantile(total, share=0.99)
    return float(estimate.half_width / estimate.value)


async def _ask(client: ClientSession, url: str, body: bytes, index: int, intended: float, seen: Seen) -> None:
    seen.lag[index] = time.perf_counter() - intended
    try:
        async with client.post(url, data=body, headers=JSON) as response:
            await response.read()
            now = time.perf_counter()
            status, headers = response.status, response.headers
    except (ClientError, TimeoutError):
        return
    if status != 200:
        return
    seen.total[index] = now - intended
    seen.outcome[index] = headers.get("X-Cycle-Cache", "")
    for term, seconds in parse_timing(headers.get(TIMING_HEADER, "")).items():
        if term in seen.terms:
            seen.terms[term][index] = seconds
