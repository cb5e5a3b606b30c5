"""What a model must beat: always the commonest label, and a bag of words, on the rows that training saw."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline

from cycle_trainer.data import LabelledText
from cycle_trainer.failures import BadInputError
from cycle_wire.profile import MetricValue
from cycle_wire.reports import Baseline

logger = logging.getLogger(__name__)


def _accuracy(truth: Sequence[str], answers: Sequence[str]) -> float:
    return float(accuracy_score(truth, answers))


def _f1_macro(truth: Sequence[str], answers: Sequence[str]) -> float:
    """Mean over the labels that occur in either; a label that is never right counts 0."""
    return float(f1_score(truth, answers, average="macro", zero_division=0))


def label_baselines(
    rows: Sequence[LabelledText], evaluation: Sequence[LabelledText], *, metrics: Sequence[str], seed: int
) -> list[Baseline]:
    """Raises BadInputError for a metric that classification doesn't have."""
    return [
        Baseline(
            name="majority",
            description="Always the most frequent class.",
            metrics=majority(rows, evaluation, metrics=metrics),
        ),
        Baseline(
            name="bagOfWords",
            description="Logistic regression on word counts.",
            metrics=bag_of_words(rows, evaluation, metrics=metrics, seed=seed),
        ),
    ]


METRICS: dict[str, Callable[[Sequence[str], Sequence[str]], float]] = {"accuracy": _accuracy, "f1Macro": _f1_macro}


def majority(
    rows: Sequence[LabelledText], evaluation: Sequence[LabelledText], *, metrics: Sequence[str]
) -> list[MetricValue]:
    """Always the commonest label; of equals the first in the alphabet."""
    counts = Counter(row.label for row in rows)
    commonest = min(counts, key=lambda label: (-counts[label], label))
    return measure(metrics, evaluation, [commonest] * len(evaluation))


def bag_of_words(
    rows: Sequence[LabelledText], evaluation: Sequence[LabelledText], *, metrics: Sequence[str], seed: int
) -> list[MetricValue]:
    """TF-IDF of single words and a logistic regression trained by stochastic gradient descent."""
    began = time.monotonic()
    model = make_pipeline(
        TfidfVectorizer(sublinear_tf=True),
        SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=20, tol=None, random_state=seed),
    )
    model.fit([row.text for row in rows], [row.label for row in rows])
    answers = model.predict([row.text for row in evaluation])
    values = measure(metrics, evaluation, list(answers))
    logger.info(
        "bag of words in %.1f s: %s", time.monotonic() - began, ", ".join(f"{v.name} {v.value:.4f}" for v in values)
    )
    return values


def measure(metrics: Sequence[str], evaluation: Sequence[LabelledText], answers: Sequence[str]) -> list[MetricValue]:
    """Raises BadInputError for a metric that this task doesn't have."""
    unknown = sorted(set(metrics) - METRICS.keys())
    if unknown:
        message = f"no metric {', '.join(unknown)}; there are {', '.join(METRICS)}"
        raise BadInputError("UnknownMetric", message, field="spec.evaluation.metrics")
    truth = [row.label for row in evaluation]
    return [MetricValue(name=name, value=METRICS[name](truth, answers), rows=len(truth)) for name in metrics]
