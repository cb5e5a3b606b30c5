"""A trace from a CSV file: arrivals, or rates from which arrivals are drawn."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cycleops.cli.files import BadInputError
from cycleops.planner.replay import MAXIMUM_REQUESTS

Array = NDArray[np.float64]
TIMES = ["seconds"]
RATES = ["seconds", "requestsPerSecond"]


def arrivals(file: Path, *, seed: int = 0) -> Array:
    """Seconds, rising. Raises BadInputError, which names the line."""
    try:
        with file.open(newline="") as lines:
            rows = csv.reader(lines)
            header = [name.strip() for name in next(rows, [])]
            if header not in (TIMES, RATES):
                raise BadInputError(f"{file} must have the header `{','.join(TIMES)}` or `{','.join(RATES)}`")
            values = np.array(list(_numbers(file, rows, len(header))))
    except UnicodeDecodeError as error:
        raise BadInputError(f"{file} is no text: {error}") from error
    if len(values) < 2:
        raise BadInputError(f"{file} must have two lines of numbers or more")
    if header == TIMES:
        return np.sort(values[:, 0])
    return _drawn(file, values[:, 0], values[:, 1], seed)


def _numbers(file: Path, rows: Iterator[list[str]], columns: int) -> Iterator[list[float]]:
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        try:
            values = [float(text) for text in row]
        except ValueError as error:
            raise BadInputError(f"{file}:{number}: {error}") from error
        if len(values) != columns or not np.isfinite(values).all():
            raise BadInputError(f"{file}:{number}: {columns} numbers are needed")
        if number > MAXIMUM_REQUESTS + 1:
            raise BadInputError(f"{file} has more than {MAXIMUM_REQUESTS:,} lines")
        yield values


def _drawn(file: Path, begins: Array, rates: Array, seed: int) -> Array:
    """A Poisson process; the last rate lasts as long as the one before it."""
    lasting = np.diff(begins)
    if (lasting <= 0).any() or (rates < 0).any():
        raise BadInputError(f"{file}: seconds must rise, and rates be 0 or more")
    lasting = np.append(lasting, lasting[-1])
    expected = float(rates @ lasting)
    if expected > MAXIMUM_REQUESTS:
        raise BadInputError(f"{file} has some {expected:,.0f} requests; at most {MAXIMUM_REQUESTS:,} are replayed")
    stream = np.random.default_rng(seed)
    counts = stream.poisson(rates * lasting)
    inside = np.repeat(begins, counts) + np.repeat(lasting, counts) * stream.random(counts.sum())
    return np.sort(inside)
