"""What an image classifier must beat: two models that look at single pixels, on the rows that training saw."""

import logging
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cycle_trainer.baselines.labels import majority, measure
from cycle_trainer.data import LabelledImage
from cycle_wire.reports import Baseline

logger = logging.getLogger(__name__)

LONGEST_SIDE = 16  # of what the baselines look at: their time and memory don't grow with the images
ITERATIONS = 200


def pixel_baselines(
    rows: Sequence[LabelledImage], evaluation: Sequence[LabelledImage], *, metrics: Sequence[str]
) -> list[Baseline]:
    """Raises BadInputError for a metric that classification doesn't have."""
    began = time.monotonic()
    seen, asked, labels = shrunk(rows), shrunk(evaluation), [row.label for row in rows]
    models = {
        "nearestCentroid": ("The class whose mean image is nearest.", NearestCentroid()),
        "pixels": (
            f"Logistic regression on the pixels, of images shrunk to at most {LONGEST_SIDE} x {LONGEST_SIDE}.",
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS)),
        ),
    }
    result = [majority(rows, evaluation, metrics=metrics)]
    for name, (description, model) in models.items():
        answers = list(model.fit(seen, labels).predict(asked))
        result.append(Baseline(name=name, description=description, metrics=measure(metrics, evaluation, answers)))
    shown = (f"{one.name} {value.name} {value.value:.4f}" for one in result for value in one.metrics)
    logger.info("baselines in %.1f s: %s", time.monotonic() - began, ", ".join(shown))
    return result


def shrunk(rows: Sequence[LabelledImage]) -> NDArray[np.float32]:
    """(rows, values): each value the mean of a block of pixels; what is left over at the edges is left out."""
    _, channels, height, width = rows[0].image.shape
    down, across = -(-height // LONGEST_SIDE), -(-width // LONGEST_SIDE)
    high, wide = height // down, width // across
    result = np.empty((len(rows), channels * high * wide), dtype=np.float32)
    for place, row in enumerate(rows):
        blocks = row.image[0, :, : high * down, : wide * across].reshape(channels, high, down, wide, across)
        result[place] = blocks.mean(axis=(2, 4)).ravel()
    return result
