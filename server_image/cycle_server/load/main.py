"""`cycle-server load`: Poisson arrivals of real texts against a service."""

import argparse
import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

from cycle_server.errors import BadInputError
from cycle_server.load.arrivals import LengthDistribution
from cycle_server.load.report import table
from cycle_server.load.run import LoadSettings, Population, Run, make_report
from cycle_server.protocol.v2 import infer_request
from cycle_server.texts import TextSource


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
    results, lengths = asyncio.run(Run(settings, population).run())
    report = make_report(settings, population, results, lengths)
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
