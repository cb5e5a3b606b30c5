"""What a text classifier must beat: a bag of words, on the rows that training saw."""

import logging
import time
from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline

from cycle_trainer.baselines.labels import majority, measure
from cycle_trainer.data import LabelledText
from cycle_wire.profile import MetricValue
from cycle_wire.reports import Baseline

logger = logging.getLogger(__name__)


def word_baselines(
    rows: Sequence[LabelledText], evaluation: Sequence[LabelledText], *, metrics: Sequence[str], seed: int
) -> list[Baseline]:
    """Raises BadInputError for a metric that classification doesn't have."""
    return [
        majority(rows, evaluation, metrics=metrics),
        Baseline(
            name="bagOfWords",
            description="Logistic regression on word counts.",
            metrics=bag_of_words(rows, evaluation, metrics=metrics, seed=seed),
        ),
    ]


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
