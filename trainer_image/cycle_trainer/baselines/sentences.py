"""What a translator must beat: the text left as it is, and what the most similar text of training was translated as."""

import logging
import time
from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from cycle_server.translations import score
from cycle_trainer.data import Pair
from cycle_trainer.failures import BadInputError
from cycle_wire.metrics import METRICS
from cycle_wire.parts import Task
from cycle_wire.reports import Baseline

logger = logging.getLogger(__name__)

COMPARED_AT_ONCE = 256  # bounds the table of similarities, which has a column for each row of training
WORD = r"(?u)\b\w+\b"  # also of one letter


def sentence_baselines(rows: Sequence[Pair], evaluation: Sequence[Pair], *, metrics: Sequence[str]) -> list[Baseline]:
    """Raises BadInputError for a metric that translation doesn't have."""
    began = time.monotonic()
    known = METRICS[Task.TRANSLATION]
    if unknown := sorted(set(metrics) - set(known)):
        message = f"no metric {', '.join(unknown)}; there are {', '.join(known)}"
        raise BadInputError("UnknownMetric", message, field="spec.evaluation.metrics")
    references = [row.translation for row in evaluation]
    models = {
        "copy": ("The text as it is.", [row.text for row in evaluation]),
        "nearestText": ("The translation of the training text whose words are most alike.", nearest(rows, evaluation)),
    }
    result = [
        Baseline(
            name=name,
            description=description,
            metrics=score(metrics, translations=translations, references=references),
        )
        for name, (description, translations) in models.items()
    ]
    shown = (f"{one.name} {value.name} {value.value:.4f}" for one in result for value in one.metrics)
    logger.info("baselines in %.1f s: %s", time.monotonic() - began, ", ".join(shown))
    return result


def nearest(rows: Sequence[Pair], evaluation: Sequence[Pair]) -> list[str]:
    """By the cosine of TF-IDF of words; of equals the first in ``rows``."""
    words = TfidfVectorizer(sublinear_tf=True, token_pattern=WORD)
    try:
        seen = words.fit_transform([row.text for row in rows]).T.tocsr()
    except ValueError:  # no text of training has a word
        return [rows[0].translation] * len(evaluation)
    asked = words.transform([row.text for row in evaluation])
    found: list[str] = []
    for first in range(0, len(evaluation), COMPARED_AT_ONCE):
        alike = (asked[first : first + COMPARED_AT_ONCE] @ seen).toarray()
        found += [rows[place].translation for place in np.argmax(alike, axis=1)]
    return found
