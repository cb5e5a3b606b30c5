"""Times of pre, compute and post at each (batch size, sequence length), saturated and paced.

Cells are visited in turns, not one after the other, so that a disturbance of the machine falls on all of them alike.
"""

from __future__ import annotations  # the engines' type is there for type checkers only

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cycle_server.profiler.asking import Asking
from cycle_wire.profile import Histogram, Pace, ProfileRow

if TYPE_CHECKING:
    from cycle_server.engine.choose import AnyEngine

MINIMUM_SAMPLES = 20
MAXIMUM_SAMPLES = {Pace.SATURATED: 150, Pace.PACED: 60}
CELL_SECONDS = {Pace.SATURATED: 0.4, Pace.PACED: 0.9}  # more when MINIMUM_SAMPLES need it
PACE_SECONDS = 40.0  # of all cells together; a slower machine gets fewer samples, but FEWEST_SAMPLES
FEWEST_SAMPLES = 8
PAUSE_SECONDS = {Pace.SATURATED: 0.0, Pace.PACED: 0.012}
THINGS_PER_CELL = 64


@dataclass
class _Cell:
    batch_size: int
    sequence_length: int
    things: Sequence[Any]
    target: int = MINIMUM_SAMPLES
    pre: list[float] = field(default_factory=list)
    compute: list[float] = field(default_factory=list)
    post: list[float] = field(default_factory=list)

    def row(self, pace: Pace) -> ProfileRow:
        return ProfileRow(
            batch_size=self.batch_size,
            sequence_length=self.sequence_length,
            pace=pace,
            pre=Histogram.of(self.pre),
            compute=Histogram.of(self.compute),
            post=Histogram.of(self.post),
        )


def measure(
    engine: AnyEngine,
    asking: Asking,
    *,
    batch_sizes: Sequence[int],
    lengths: Sequence[int],
    paces: Sequence[Pace] = (Pace.SATURATED, Pace.PACED),
) -> list[ProfileRow]:
    """Rows for each pace, batch size and length."""
    things = {length: asking.take(length, THINGS_PER_CELL) for length in set(lengths)}
    return [
        row
        for pace in paces
        for row in _measure_pace(engine, asking, pace, [_Cell(b, n, things[n]) for n in lengths for b in batch_sizes])
    ]


def _measure_pace(engine: AnyEngine, asking: Asking, pace: Pace, cells: list[_Cell]) -> list[ProfileRow]:
    for cell in cells:  # warm-up, and how many samples there is time for
        started = time.perf_counter()
        _sample(engine, asking, cell, 0)
        seconds = time.perf_counter() - started + PAUSE_SECONDS[pace]
        cell.target = min(max(int(CELL_SECONDS[pace] / seconds), MINIMUM_SAMPLES), MAXIMUM_SAMPLES[pace])
        cell.pre, cell.compute, cell.post = [], [], []
    until = time.perf_counter() + PACE_SECONDS
    for turn in range(max(cell.target for cell in cells)):
        if turn >= FEWEST_SAMPLES and time.perf_counter() > until:
            break
        for cell in cells:
            if len(cell.compute) < cell.target:
                if PAUSE_SECONDS[pace]:
                    time.sleep(PAUSE_SECONDS[pace])
                _sample(engine, asking, cell, turn)
    return [cell.row(pace) for cell in cells]


def _sample(engine: AnyEngine, asking: Asking, cell: _Cell, turn: int) -> None:
    """One batch; pre and post of one request of it, as the server does them."""
    chosen = [cell.things[(turn + i) % len(cell.things)] for i in range(cell.batch_size)]
    body = asking.body(chosen[0])
    started = time.perf_counter()
    request, first = asking.read(body)
    cell.pre.append(time.perf_counter() - started)

    items = [*first, *asking.items(chosen[1:])]
    started = time.perf_counter()
    outputs = engine.compute(items)
    cell.compute.append(time.perf_counter() - started)

    started = time.perf_counter()
    asking.answer(request, outputs[:1])
    cell.post.append(time.perf_counter() - started)
