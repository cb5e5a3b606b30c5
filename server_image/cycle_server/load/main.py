"""`cycle-server load`: Poisson arrivals of real texts against a service."""

import argparse
import asyncio
import json
import logging
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from tokenizers import Tokenizer

from cycle_server.errors import BadInputError
from cycle_server.load.arrivals import LengthDistribution, poisson, zipf
from cycle_server.load.report import ALL, LoadReport, Results, quantile_milliseconds, table, term_report
from cycle_server.protocol.timing import HEADER as TIMING_HEADER
from cycle_server.protocol.timing import parse_timing
from cycle_server.protocol.v2 import infer_request
from cycle_server.texts import TextSource

logger = logging.getLogger(__name__)

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


def settings_of(parsed: argparse.Namespace) -> LoadSettings:
    """Raises BadInputError that names the option."""
    try:
        p50, p99 = (float(part) for part in parsed.token_lengths.split(","))
    except ValueError as error:
        raise BadInputError(f"--token-lengths {parsed.token_lengths}: must be P50,P99") from error
    if not 0 < p50 <= p99:
        raise BadInputError(f"--token-lengths {parsed.token_lengths}: P50 must be above 0 and at most P99")
    for name in ("rate", "duration", "distinct", "timeout"):
        if getattr(parsed, name) <= 0:
            raise BadInputError(f"--{name} must be above 0")
    return LoadSettings(
        url=parsed.url.rstrip("/"),
        model=parsed.model,
        rate=parsed.rate,
        duration_seconds=parsed.duration,
        warm_up_seconds=parsed.warm_up,
        data=parsed.data,
        field=parsed.field,
        tokenizer=parsed.tokenizer,
        lengths=LengthDistribution(p50=p50, p99=p99),
        distinct=parsed.distinct,
        zipf=parsed.zipf,
        seed=parsed.seed,
        timeout_seconds=parsed.timeout,
        report=parsed.report,
    )


def run_load(settings: LoadSettings) -> int:
    """Exit code: 0, or 1 when no request was answered. Raises BadInputError."""
    population = make_population(settings)
    results, lengths = asyncio.run(_Run(settings, population).run())
    report = _report(settings, population, results, lengths)
    print(table(report), flush=True)
    if settings.report is not None:
        settings.report.write_text(report.to_json(), encoding="utf-8")
    return 0 if results.outcomes else 1


def make_population(settings: LoadSettings) -> Population:
    """Distinct texts whose lengths follow the distribution as nearly as the data allows."""
    tokenizer_file = settings.tokenizer / "tokenizer.json"
    if not tokenizer_file.is_file():
        raise BadInputError(f"--tokenizer: there is no file {tokenizer_file}")
    tokenizer = Tokenizer.from_str(tokenizer_file.read_text(encoding="utf-8"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    texts = list(_texts(settings.data, settings.field))
    if not texts:
        raise BadInputError(f"--data: {settings.data} has no rows")
    source = TextSource(texts, tokenizer=tokenizer, seed=settings.seed)
    lengths = random.Random(settings.seed)
    chosen: list[str] = []
    while len(chosen) < settings.distinct:
        try:
            chosen.append(source.take_nearest(settings.lengths.sample(lengths)))
        except LookupError:  # fewer different texts than wanted: the report says how many
            break
    bodies = [infer_request(text) for text in chosen]
    return Population(bodies=bodies, lengths=[source.length_of(text) for text in chosen])


def _texts(path: Path, field: str) -> Iterator[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadInputError(f"--data: {path}: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            record = json.loads(line)
            if field not in record:
                raise BadInputError(f"--field: {path}, line {number} has no field {field!r}")
            yield str(record[field])


class _Run:
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
                await _until(start + arrival)
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
                outcome = response.headers.get("X-Cycle-Cache", "direct")
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


async def _until(moment: float) -> None:
    coarse = moment - time.perf_counter() - POLL_SECONDS
    if coarse > 0:
        await asyncio.sleep(coarse)
    while time.perf_counter() < moment:  # noqa: ASYNC110 - nothing will tell: it is the clock itself
        await asyncio.sleep(0)


def _report(settings: LoadSettings, population: Population, results: Results, lengths: list[int]) -> LoadReport:
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
