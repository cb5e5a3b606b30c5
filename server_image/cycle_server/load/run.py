"""One load run: sends each request at its intended moment, whatever became of the others."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from cycle_server.load.arrivals import LengthDistribution, poisson, zipf
from cycle_server.load.report import ALL, LoadReport, Results, quantile_milliseconds, term_report
from cycle_server.protocol.timing import HEADER as TIMING_HEADER
from cycle_server.protocol.timing import parse_timing
from cycle_wire.headers import CACHE_HEADER

PROGRESS_SECONDS = 5.0
# The event loop's timers are a millisecond coarse: the rest of the way to the intended moment is polled.
POLL_SECONDS = 0.0015


@dataclass(frozen=True)
class LoadSettings:
    url: str
    model: str
    rate: float
    duration_seconds: float
    warm_up_seconds: float
    data: Path
    field: str
    tokenizer: Path
    lengths: LengthDistribution
    distinct: int
    zipf: float
    seed: int
    timeout_seconds: float
    report: Path | None


@dataclass(frozen=True)
class Population:
    """Request bodies by popularity rank, and their texts' lengths in tokens."""

    bodies: list[bytes]
    lengths: list[int]


class Run:
    def __init__(self, settings: LoadSettings, population: Population) -> None:
        self._settings = settings
        self._population = population
        self._results = Results()
        self._url = f"{settings.url}/v2/models/{settings.model}/infer"

    async def run(self) -> tuple[Results, list[int]]:
        """Results, and the length in tokens of each request's text. The warm-up isn't in them."""
        settings = self._settings
        timeout = ClientTimeout(total=settings.timeout_seconds)
        async with ClientSession(connector=TCPConnector(limit=0), timeout=timeout) as session:
            if settings.warm_up_seconds:
                await self._period(session, settings.warm_up_seconds, seed=settings.seed + 1)
                self._results = Results()
            lengths = await self._period(session, settings.duration_seconds, seed=settings.seed)
        return self._results, lengths

    async def _period(self, session: ClientSession, duration_seconds: float, *, seed: int) -> list[int]:
        arrivals = poisson(rate=self._settings.rate, duration_seconds=duration_seconds, seed=seed)
        ranks = zipf(count=len(self._population.bodies), exponent=self._settings.zipf, seed=seed)
        start = time.perf_counter()
        next_progress = start + PROGRESS_SECONDS
        lengths = []
        async with asyncio.TaskGroup() as tasks:
            for arrival, rank in zip(arrivals, ranks, strict=False):
                await until(start + arrival)
                tasks.create_task(self._send(session, self._population.bodies[rank], intended=start + arrival))
                lengths.append(self._population.lengths[rank])
                if time.perf_counter() > next_progress:
                    next_progress += PROGRESS_SECONDS
                    self._progress(time.perf_counter() - start)
        return lengths

    async def _send(self, session: ClientSession, body: bytes, *, intended: float) -> None:
        results = self._results
        results.requests += 1
        results.lags.append(time.perf_counter() - intended)
        try:
            headers = {"Content-Type": "application/json"}
            async with session.post(self._url, data=body, headers=headers) as response:
                await response.read()
                total = time.perf_counter() - intended
                if response.status != 200:
                    results.errors[f"HTTP {response.status}"] += 1
                    return
                outcome = response.headers.get(CACHE_HEADER, "direct")
                terms = parse_timing(", ".join(response.headers.getall(TIMING_HEADER, [])))
        except TimeoutError:
            results.errors["timeout"] += 1
        except ClientError as error:
            results.errors[type(error).__name__] += 1
        else:
            results.answered(total=total, outcome=outcome, terms=terms)

    def _progress(self, seconds: float) -> None:
        totals = self._results.times[ALL]["total"]
        p50, p99 = (quantile_milliseconds(totals, q) for q in (0.5, 0.99))
        errors = sum(self._results.errors.values())
        requests = self._results.requests
        print(f"{seconds:5.0f} s  {requests} requests, {errors} errors, p50 {p50:.1f} ms, p99 {p99:.1f} ms", flush=True)


async def until(moment: float) -> None:
    """Returns at ``moment`` of time.perf_counter(), to a few microseconds; the end of the wait is polled."""
    coarse = moment - time.perf_counter() - POLL_SECONDS
    if coarse > 0:
        await asyncio.sleep(coarse)
    while time.perf_counter() < moment:  # noqa: ASYNC110 - nothing will tell: it is the clock itself
        await asyncio.sleep(0)


def make_report(settings: LoadSettings, population: Population, results: Results, lengths: list[int]) -> LoadReport:
    answers = max(sum(results.outcomes.values()), 1)
    ordered = sorted(lengths) or [0]
    return LoadReport(
        model=settings.model,
        url=settings.url,
        rate=settings.rate,
        duration_seconds=settings.duration_seconds,
        seed=settings.seed,
        zipf=settings.zipf,
        distinct_texts=len(population.bodies),
        token_lengths={"p50": ordered[len(ordered) // 2], "p99": ordered[int(len(ordered) * 0.99)]},
        requests=results.requests,
        errors=sum(results.errors.values()),
        errors_by_kind=dict(results.errors),
        outcomes=dict(results.outcomes),
        cache_hit_ratio=round(results.outcomes["hit"] / answers, 6),
        coalesced_ratio=round(results.outcomes["coalesced"] / answers, 6),
        send_lag=term_report(results.lags),
        terms=results.term_reports(),
    )
