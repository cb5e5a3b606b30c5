"""Quality of a variant as the serving engine computes it, and whether batch neighbours change its answers."""

from __future__ import annotations  # the engines' type is there for type checkers only

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import accuracy_score, f1_score

from cycle_server.errors import BadInputError
from cycle_server.items import Items
from cycle_wire.parts import Precision
from cycle_wire.profile import MetricValue

if TYPE_CHECKING:
    from cycle_server.engine.choose import Classifier

# Of an evaluation batch: large enough to be efficient, small enough for the processor's cache.
BATCH_TOKENS, BATCH_ITEMS = 512, 32

Metric = Callable[[Sequence[str], Sequence[str]], float]
METRICS: dict[str, Metric] = {
    "accuracy": lambda truth, answers: float(accuracy_score(truth, answers)),
    "f1Macro": lambda truth, answers: float(f1_score(truth, answers, average="macro", zero_division=0)),
}

# Largest change of a probability that still counts as the same answer. float32 and int8 (whose scales are per token)
# change by rounding of sums only; bfloat16 keeps 8 bits of each intermediate value, and a sum in another order can move
# the last of them in every layer.
TOLERANCES = {Precision.FLOAT32: 1e-3, Precision.BFLOAT16: 2e-2}
NEIGHBOUR_ITEMS = 48
NEIGHBOUR_BATCHES = (4, 16)


def check_metrics(names: Sequence[str], *, known: Collection[str]) -> None:
    """Raises BadInputError for a metric that isn't known."""
    for name in names:
        if name not in known:
            raise BadInputError(
                f"unknown metric {name!r}; known: {', '.join(known)}",
                reason="UnknownMetric",
                field="spec.evaluation.metrics",
            )


def batches(items: Items) -> Iterator[list[int]]:
    """Places of items of like length: with the packed encoder that only bounds a batch's memory."""
    batch: list[int] = []
    filled = 0
    for index in sorted(range(len(items)), key=lambda i: len(items[i])):
        batch.append(index)
        filled += len(items[index])
        if filled >= BATCH_TOKENS or len(batch) == BATCH_ITEMS:
            yield batch
            batch, filled = [], 0
    if batch:
        yield batch


def evaluate(engine: Classifier, items: Items, truth: Sequence[str], *, metrics: Sequence[str]) -> list[MetricValue]:
    """``truth``: the label of each item."""
    answers = [""] * len(items)
    for batch in batches(items):
        labels = engine.post(engine.compute([items[i] for i in batch])).labels
        for i, label in zip(batch, labels, strict=True):
            answers[i] = label
    return [MetricValue(name=name, value=METRICS[name](truth, answers), rows=len(truth)) for name in metrics]


def random_batches(count: int, *, seed: int = 0) -> Iterator[list[int]]:
    """Places of ``count`` items, which each come once in every size of batch."""
    source = random.Random(seed)
    for size in NEIGHBOUR_BATCHES:
        order = list(range(count))
        source.shuffle(order)
        for first in range(0, count, size):
            yield order[first : first + size]


def neighbour_difference(engine: Classifier, items: Items) -> float:
    """Largest change of a probability between an item alone and the item in batches with random others."""
    items, largest = items[:NEIGHBOUR_ITEMS], 0.0
    alone = np.concatenate([engine.post(engine.compute([item])).probabilities for item in items])
    for batch in random_batches(len(items)):
        together = engine.post(engine.compute([items[i] for i in batch])).probabilities
        largest = max(largest, float(np.abs(together - alone[batch]).max()))
    return largest


def tolerance(precision: Precision) -> float:
    return TOLERANCES[precision]
