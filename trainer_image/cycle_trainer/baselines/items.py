"""What a recommender must beat: what most have, and what those have who have the same."""

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from cycle_server.ranking import CUTOFF, METRICS, best
from cycle_trainer.failures import BadInputError
from cycle_wire.profile import MetricValue
from cycle_wire.reports import Baseline

logger = logging.getLogger(__name__)

Indices = Sequence[int]
Scores = NDArray[np.float64]
# The known items of a set, of those held out, and how many are held out in all.
Question = tuple[Indices, Indices, int]


def item_baselines(
    sets: Sequence[Indices], questions: Sequence[Question], *, items: int, metrics: Sequence[str]
) -> list[Baseline]:
    """``sets``: what training saw. Raises BadInputError for a metric that recommendation doesn't have."""
    began = time.monotonic()
    had = _matrix(sets, items=items)
    popularity = np.asarray(had.sum(axis=0), dtype=np.float64).ravel()
    similarity = _cosine(had, popularity)
    models: dict[str, tuple[str, Callable[[Indices], Scores]]] = {
        "mostPopular": ("What most sets have.", lambda _: popularity),
        "coOccurrence": (
            "Items that are in the same sets as those given: the sum of the cosines of their columns.",
            lambda given: np.asarray(similarity[list(given)].sum(axis=0)).ravel() if given else popularity,
        ),
    }
    result = [
        Baseline(name=name, description=description, metrics=quality(questions, scores, metrics=metrics))
        for name, (description, scores) in models.items()
    ]
    shown = (f"{one.name} {value.name} {value.value:.4f}" for one in result for value in one.metrics)
    logger.info("baselines in %.1f s: %s", time.monotonic() - began, ", ".join(shown))
    return result


def quality(
    questions: Sequence[Question], scores: Callable[[Indices], Scores], *, metrics: Sequence[str]
) -> list[MetricValue]:
    """Means over the questions; ``scores`` gives those of all items from what is given, which isn't ranked.

    Raises BadInputError for a metric that recommendation doesn't have.
    """
    if unknown := sorted(set(metrics) - METRICS.keys()):
        message = f"no metric {', '.join(unknown)}; there are {', '.join(METRICS)}"
        raise BadInputError("UnknownMetric", message, field="spec.evaluation.metrics")
    values: dict[str, list[float]] = {name: [] for name in metrics}
    for given, wanted, total in questions:
        ranked = best(scores(given), CUTOFF, without=given)
        for name, each in values.items():
            each.append(METRICS[name](ranked, wanted, total=total))
    return [MetricValue(name=name, value=float(np.mean(each)), rows=len(each)) for name, each in values.items()]


def _matrix(sets: Sequence[Indices], *, items: int) -> csr_matrix:
    """(sets, items): 1 where the set has the item."""
    ends = np.cumsum([0, *(len(one) for one in sets)])
    columns = np.fromiter((item for one in sets for item in one), dtype=np.int64, count=int(ends[-1]))
    return csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(sets), items))


def _cosine(had: csr_matrix, popularity: Scores) -> csr_matrix:
    """(items, items) cosine of two items' columns (Sarwar et al. 2001)."""
    inverse = diags(1 / np.sqrt(np.maximum(popularity, 1)))
    return (inverse @ (had.T @ had) @ inverse).tocsr()
