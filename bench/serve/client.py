"""The client: open-loop Poisson arrivals, and a closed loop that keeps the server full.

A request's latency counts from the moment it was meant to be sent, so a slow server can't slow down its own test
(no coordinated omission). A request that fails or is shed has no latency: it is infinitely late.
"""

import asyncio
import itertools
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from bench.serve.texts import Requests
from cycle_server.load.arrivals import poisson
from cycle_server.load.run import until

TIMEOUT_SECONDS = 10.0
ANSWERED = "200"
DEADLINE_HEADER = "X-Cycle-Deadline-Ms"  # ours reads it; to the peers it says nothing
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Latencies:
    """Seconds, infinite for a request without a 200 answer; a late send of this program is in them.

    ``outcomes``: how many had each status, or the error instead of one.
    """

    seconds: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    def quantile(self, q: float) -> float:
        return quantile(self.seconds, q)

    def share_within(self, budget_seconds: float) -> float:
        return sum(s <= budget_seconds for s in self.seconds) / max(len(self.seconds), 1)


def quantile(values: Sequence[float], q: float) -> float:
    """Nearest rank; not a number when there are no values."""
    if not values:
        return math.nan
    return sorted(values)[max(math.ceil(q * len(values)), 1) - 1]


class Client:
    """One at a time: each measurement has the machine for itself."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/v2/models/m/infer"

    async def is_ready(self, body: bytes) -> bool:
        async with _session() as session:
            return await self._send(session, body, JSON) == ANSWERED

    async def saturate(self, requests: Requests, *, concurrency: int, seconds: float) -> float:
        """Answers per second while ``concurrency`` requests are always on their way; the first quarter is warm-up."""
        bodies = itertools.cycle(requests.bodies)
        ended: list[float] = []
        first = time.perf_counter() + seconds / 4
        last = first + seconds

        async def keep_sending(session: ClientSession) -> None:
            while time.perf_counter() < last:
                if await self._send(session, next(bodies), JSON) != ANSWERED:
                    raise RuntimeError(f"{self._url} failed under a closed loop of {concurrency}")
                ended.append(time.perf_counter())

        async with _session() as session, asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(keep_sending(session))
        counted = [moment for moment in ended if first <= moment <= last]
        return (len(counted) - 1) / (counted[-1] - counted[0])

    async def open_loop(
        self, requests: Requests, *, rate: float, seconds: float, seed: int, budget_seconds: float
    ) -> Latencies:
        headers = {**JSON, DEADLINE_HEADER: f"{budget_seconds * 1000:g}"}
        result = Latencies()

        async def send(session: ClientSession, body: bytes, intended: float) -> None:
            outcome = await self._send(session, body, headers)
            result.seconds.append(time.perf_counter() - intended if outcome == ANSWERED else math.inf)
            result.outcomes[outcome] += 1

        async with _session() as session, asyncio.TaskGroup() as tasks:
            start = time.perf_counter() + 0.01
            arrivals = poisson(rate=rate, duration_seconds=seconds, seed=seed)
            for arrival, body in zip(arrivals, itertools.cycle(requests.bodies), strict=False):
                await until(start + arrival)
                tasks.create_task(send(session, body, start + arrival))
        return result

    async def _send(self, session: ClientSession, body: bytes, headers: dict[str, str]) -> str:
        """The answer's status, or the error's name."""
        try:
            async with session.post(self._url, data=body, headers=headers) as response:
                await response.read()
                return str(response.status)
        except (ClientError, TimeoutError) as error:
            return type(error).__name__


def _session() -> ClientSession:
    return ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=TIMEOUT_SECONDS))
