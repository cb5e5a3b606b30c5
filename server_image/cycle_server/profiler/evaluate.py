"""Quality of a variant as the serving engine computes it, and whether batch neighbours change its answers."""

import random
from collections.abc import Callable, Collection, Sequence

import numpy as np
from sklearn.metrics import accuracy_score, f1_score

from cycle_server.engine.pipeline import Engine
from cycle_server.errors import BadInputError
from cycle_server.profiler.rows import Row
from cycle_wire.parts import Precision
from cycle_wire.profile import MetricValue

BATCH_TOKENS = 512  # of an evaluation batch: large enough to be efficient, small enough for the processor's cache

Metric = Callable[[Sequence[str], Sequence[str]], float]
METRICS: dict[str, Metric] = {
    "accuracy": lambda truth, answers: float(accuracy_score(truth, answers)),
    "f1Macro": lambda truth, answers: float(f1_score(truth, answers, average="macro", zero_division=0)),
}

# Largest change of a probability that still counts as the same answer. float32 and int8 (whose scales are per token)
# change by rounding of sums only; bfloat16 keeps 8 bits of each intermediate value, and a sum in another order can move
# the last of them in every layer.
TOLERANCES = {Precision.FLOAT32: 1e-3, Precision.BFLOAT16: 2e-2}
NEIGHBOUR_TEXTS = 48
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


def evaluate(engine: Engine, rows: Sequence[Row], *, metrics: Sequence[str]) -> list[MetricValue]:
    """Texts of like length together: with the packed encoder that only bounds a batch's memory."""
    tokens = engine.pre([row.text for row in rows])
    order = sorted(range(len(rows)), key=lambda i: len(tokens[i]))
    answers = [""] * len(rows)
    batch: list[int] = []
    filled = 0
    for position, index in enumerate(order):
        batch.append(index)
        filled += len(tokens[index])
        if filled >= BATCH_TOKENS or position == len(order) - 1:
            labels = engine.post(engine.compute([tokens[i] for i in batch])).labels
            for i, label in zip(batch, labels, strict=True):
                answers[i] = label
            batch, filled = [], 0
    truth = [row.label for row in rows]
    return [MetricValue(name=name, value=METRICS[name](truth, answers), rows=len(rows)) for name in metrics]


def neighbour_difference(engine: Engine, texts: Sequence[str], *, seed: int = 0) -> float:
    """Largest change of a probability between a text alone and the text in batches with random others."""
    tokens = engine.pre(texts[:NEIGHBOUR_TEXTS])
    alone = np.concatenate([engine.post(engine.compute([text])).probabilities for text in tokens])
    source, largest = random.Random(seed), 0.0
    for size in NEIGHBOUR_BATCHES:
        order = list(range(len(tokens)))
        source.shuffle(order)
        for first in range(0, len(order), size):
            batch = order[first : first + size]
            together = engine.post(engine.compute([tokens[i] for i in batch])).probabilities
            largest = max(largest, float(np.abs(together - alone[batch]).max()))
    return largest


def tolerance(precision: Precision) -> float:
    return TOLERANCES[precision]
