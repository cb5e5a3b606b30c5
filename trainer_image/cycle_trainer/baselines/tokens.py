"""What a language model must beat: how often each token comes, alone and after the one before it.

Both learn from the same training rows and are judged on the same tokens of the evaluation rows as the model.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix

from cycle_server.token_rows import TokenRow
from cycle_trainer.failures import BadInputError
from cycle_wire.metrics import METRICS
from cycle_wire.parts import Evaluation, Task
from cycle_wire.profile import MetricValue
from cycle_wire.reports import Baseline

logger = logging.getLogger(__name__)

Ids = NDArray[np.int64]
Weights = NDArray[np.float64]
# How much the unigrams count in the bigrams' estimate; the best on rows that were held out is taken.
PRIOR_STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
HELD_OUT = 10  # one row in so many


@dataclass(frozen=True)
class Pairs:
    """Every learned token and the one before it, both (tokens,)."""

    before: Ids
    token: Ids

    @classmethod
    def of(cls, rows: Sequence[TokenRow]) -> "Pairs":
        pairs = [
            (row.ids[place - 1], row.ids[place]) for row in rows for place in range(len(row.ids)) if row.learned[place]
        ]
        table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return cls(before=table[:, 0], token=table[:, 1])


class Unigrams:
    """Each token's share, with one added to its count."""

    def __init__(self, pairs: Pairs, *, vocabulary: int) -> None:
        counts = np.bincount(pairs.token, minlength=vocabulary) + 1.0
        self.shares: Weights = counts / counts.sum()

    def probabilities(self, pairs: Pairs) -> Weights:
        return self.shares[pairs.token]

    def best(self, pairs: Pairs) -> Ids:
        """The likeliest token in each place."""
        return np.full(len(pairs.token), int(self.shares.argmax()))


class Bigrams:
    """Counts of pairs on top of ``strength`` times the unigrams (a Dirichlet prior: MacKay and Peto 1995)."""

    def __init__(self, pairs: Pairs, *, unigrams: Unigrams, strength: float) -> None:
        vocabulary = len(unigrams.shares)
        ones = np.ones(len(pairs.token))
        self._counts: csr_matrix = coo_matrix(
            (ones, (pairs.before, pairs.token)), shape=(vocabulary, vocabulary)
        ).tocsr()
        self._totals: Weights = np.asarray(self._counts.sum(axis=1)).ravel()
        self._unigrams, self._strength = unigrams, strength

    def probabilities(self, pairs: Pairs) -> Weights:
        seen = np.asarray(self._counts[pairs.before, pairs.token]).ravel()
        prior = self._strength * self._unigrams.probabilities(pairs)
        result: Weights = (seen + prior) / (self._totals[pairs.before] + self._strength)
        return result

    def best(self, pairs: Pairs) -> Ids:
        """The likeliest token after each token, looked up for each place."""
        prior = self._strength * self._unigrams.shares
        likeliest = np.zeros(len(prior), dtype=np.int64)
        for token in np.unique(pairs.before):
            scores = prior.copy()
            row = slice(self._counts.indptr[token], self._counts.indptr[token + 1])
            scores[self._counts.indices[row]] += self._counts.data[row]
            likeliest[token] = scores.argmax()
        found: Ids = likeliest[pairs.before]
        return found


def perplexity(model: Unigrams | Bigrams, pairs: Pairs) -> float:
    return float(np.exp(-np.log(model.probabilities(pairs)).mean()))


def fitted_bigrams(rows: Sequence[TokenRow], *, vocabulary: int) -> Bigrams:
    """The strength of the prior is chosen on every HELD_OUT-th row, then all rows are counted."""
    everything = Pairs.of(rows)
    unigrams = Unigrams(everything, vocabulary=vocabulary)
    strength = PRIOR_STRENGTHS[-1]
    held, rest = Pairs.of(rows[::HELD_OUT]), Pairs.of([row for i, row in enumerate(rows) if i % HELD_OUT])
    if len(rest.token):
        base = Unigrams(rest, vocabulary=vocabulary)
        strength = min(PRIOR_STRENGTHS, key=lambda s: perplexity(Bigrams(rest, unigrams=base, strength=s), held))
    return Bigrams(everything, unigrams=unigrams, strength=strength)


def token_baselines(
    rows: Sequence[TokenRow], evaluation: Sequence[TokenRow], *, vocabulary: int, evaluation_spec: Evaluation
) -> list[Baseline]:
    """Raises BadInputError for a metric that language models don't have."""
    began = time.monotonic()
    known = METRICS[Task.LANGUAGE_MODELING]
    if unknown := sorted(set(evaluation_spec.metrics) - set(known)):
        message = f"no metric {', '.join(unknown)}; there are {', '.join(known)}"
        raise BadInputError("UnknownMetric", message, field="spec.evaluation.metrics")
    judged = Pairs.of(evaluation)
    models: dict[str, tuple[str, Unigrams | Bigrams]] = {
        "unigram": ("How often each token comes.", Unigrams(Pairs.of(rows), vocabulary=vocabulary)),
        "bigram": ("How often each token comes after the one before it.", fitted_bigrams(rows, vocabulary=vocabulary)),
    }
    result = []
    for name, (description, model) in models.items():
        values = {
            "tokenAccuracy": float((model.best(judged) == judged.token).mean()),
            "perplexity": perplexity(model, judged),
        }
        metrics = [MetricValue(name=m, value=values[m], rows=len(evaluation)) for m in evaluation_spec.metrics or known]
        result.append(Baseline(name=name, description=description, metrics=metrics))
        logger.info("%s: %s", name, ", ".join(f"{metric.name} {metric.value:.4f}" for metric in metrics))
    logger.info("baselines in %.1f s", time.monotonic() - began)
    return result
