"""A classifier's or recommender's measurements: its quality, whether neighbours change its answers, its times."""

from __future__ import annotations  # the engines' type is there for type checkers only

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cycle_server import ranking
from cycle_server.items import Items
from cycle_server.profiler.asking import Asking, AskingImages, AskingTexts
from cycle_server.profiler.evaluate import METRICS, check_metrics, evaluate, neighbour_difference, tolerance
from cycle_server.profiler.measure import measure
from cycle_server.profiler.measured import Measured
from cycle_server.profiler.neighbours import busy_neighbours
from cycle_server.profiler.rows import read_rows
from cycle_server.profiler.sets import AskingSets, evaluate_sets, read_questions
from cycle_wire.profile import MetricValue
from cycle_wire.serving import ProfilingConfig, ServerConfig

if TYPE_CHECKING:
    from cycle_server.engine.choose import Classifier


def measure_texts(config: ProfilingConfig, server: ServerConfig) -> Measured:
    """Raises BadInputError."""
    from cycle_server.engine.device import choose_device
    from cycle_server.engine.pipeline import Engine

    check_metrics(config.evaluation.metrics, known=METRICS)
    rows = read_rows(
        Path(config.evaluation_path),
        fields=config.fields,
        kind="text",
        convert=str,
        maximum_rows=config.evaluation.maximum_rows,
    )
    texts, labels = [row.content for row in rows], [row.truth for row in rows]
    engine = Engine(
        Path(server.variant_path), threads=config.threads, device=choose_device(config.device, workers=config.workers)
    )
    lengths = sorted(set(config.sequence_lengths))
    quality = evaluate(engine, items := engine.pre(texts), labels, metrics=config.evaluation.metrics)
    return _measured(engine, AskingTexts(engine, texts), items, quality, config, server, lengths=lengths)


def measure_images(config: ProfilingConfig, server: ServerConfig) -> Measured:
    """An image is as long as any other: 1. Raises BadInputError."""
    from cycle_server.engine.device import choose_device
    from cycle_server.engine.image import ImageEngine  # transformers is only for those who need it

    check_metrics(config.evaluation.metrics, known=METRICS)
    engine = ImageEngine(
        Path(server.variant_path), threads=config.threads, device=choose_device(config.device, workers=config.workers)
    )
    rows = read_rows(
        Path(config.evaluation_path),
        fields=config.fields,
        kind="image",
        convert=engine.image_format.read,
        maximum_rows=config.evaluation.maximum_rows,
    )
    images, labels = np.concatenate([row.content for row in rows]), [row.truth for row in rows]
    quality = evaluate(engine, items := engine.pre(images), labels, metrics=config.evaluation.metrics)
    return _measured(engine, AskingImages(engine, images), items, quality, config, server, lengths=[1])


def measure_sets(config: ProfilingConfig, server: ServerConfig) -> Measured:
    """Sequence lengths are of sets, with the token that begins each. Raises BadInputError."""
    from cycle_server.engine.device import choose_device
    from cycle_server.engine.recommender import Recommender

    check_metrics(config.evaluation.metrics, known=ranking.METRICS)
    questions = read_questions(
        Path(config.evaluation_path), fields=config.fields, maximum_rows=config.evaluation.maximum_rows
    )
    engine = Recommender(
        Path(server.variant_path), threads=config.threads, device=choose_device(config.device, workers=config.workers)
    )
    sets = [question.given for question in questions]
    quality = evaluate_sets(engine, questions, metrics=config.evaluation.metrics)
    lengths = sorted(set(config.sequence_lengths))
    return _measured(engine, AskingSets(engine, sets), engine.pre(sets), quality, config, server, lengths=lengths)


def _measured(
    engine: Classifier,
    asking: Asking,
    items: Items,
    quality: Sequence[MetricValue],
    config: ProfilingConfig,
    server: ServerConfig,
    *,
    lengths: Sequence[int],
) -> Measured:
    difference = neighbour_difference(engine, items)
    with busy_neighbours(server, engine.sample):
        rows = measure(engine, asking, batch_sizes=sorted(set(config.batch_sizes)), lengths=lengths)
    return Measured(
        metrics=quality,
        rows=rows,
        batch_invariant=difference <= tolerance(engine.manifest.variant.precision),
        neighbour_difference=difference,
        bodies=asking.bodies(),
        workers=server.workers,
        threads=server.threads,
    )
