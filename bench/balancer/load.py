"""Open-loop load: each request is sent at its own moment of a Poisson process, and timed from that moment on."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from aiohttp import ClientError, ClientSession, TCPConnector

from cycle_server.load.arrivals import poisson, zipf
from cycle_server.protocol import v2
from cycle_server.protocol.timing import TERMS, parse_timing

POLL_SECONDS = 0.0015  # the event loop's timers are a millisecond coarse


@dataclass(frozen=True, kw_only=True)
class Load:
    url: str
    rate: float
    seconds: float
    keys: int
    exponent: float
    seed: int


@dataclass
class Seen:
    """Seconds per request; ``uncovered``: share of the balancer's total that is in none of T's terms."""

    latencies: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    hops: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)
    uncovered: list[float] = field(default_factory=list)
    errors: int = 0
    other_load: float = 0.0  # share of a core that other processes took meanwhile


async def run(load: Load) -> Seen:
    seen = Seen()
    ranks = zipf(count=load.keys, exponent=load.exponent, seed=load.seed)
    async with ClientSession(connector=TCPConnector(limit=0)) as session, asyncio.TaskGroup() as group:
        begun = time.perf_counter() + 0.1
        for moment in poisson(rate=load.rate, duration_seconds=load.seconds, seed=load.seed):
            await _until(begun + moment)
            body = v2.infer_request(f"question {next(ranks)}")
            group.create_task(_ask(session, load.url, body, begun + moment, seen))
    return seen


async def _until(moment: float) -> None:
    while (left := moment - time.perf_counter()) > 0:  # noqa: ASYNC110 - a clock is waited for, not an event
        await asyncio.sleep(left - POLL_SECONDS if left > POLL_SECONDS else 0)


async def _ask(session: ClientSession, url: str, body: bytes, intended: float, seen: Seen) -> None:
    sent = time.perf_counter()
    try:
        async with session.post(url, data=body) as response:
            await response.read()
    except ClientError:
        seen.errors += 1
        return
    now = time.perf_counter()
    if response.status != 200:
        seen.errors += 1
        return
    seen.latencies.append(now - intended)
    seen.outcomes[response.headers["X-Cycle-Cache"]] += 1
    header = response.headers["Server-Timing"]
    terms = parse_timing(header)
    total = terms["total"]
    covered = sum(terms.get(term, 0.0) for term in ("transport", "cache", *TERMS))
    # The balancer's own entry stands last: "..., transport;dur=HOP, total;dur=TOTAL".
    seen.hops.append(parse_timing(header.rsplit(", ", 2)[1])["transport"])
    seen.outside.append(now - sent - total)
    seen.uncovered.append(abs(total - covered) / total)
