"""A translator's own measurements: its quality, whether neighbours change its translations, its times."""

from __future__ import annotations  # the engine's type is there for type checkers only

from pathlib import Path
from typing import TYPE_CHECKING

from cycle_server.items import Items
from cycle_server.profiler.asking import AskingTranslations
from cycle_server.profiler.evaluate import NEIGHBOUR_ITEMS, batches, check_metrics, random_batches
from cycle_server.profiler.measure import measure
from cycle_server.profiler.measured import Measured
from cycle_server.profiler.neighbours import busy_neighbours
from cycle_server.profiler.rows import read_rows
from cycle_wire.metrics import METRICS
from cycle_wire.parts import Task
from cycle_wire.serving import ProfilingConfig, ServerConfig

if TYPE_CHECKING:
    from cycle_server.engine.translation import TranslationEngine


def measure_translations(config: ProfilingConfig, server: ServerConfig) -> Measured:
    """A row's sequence length is the text's; its times are those of the translations that come of it.

    Raises BadInputError.
    """
    from cycle_server.engine.device import choose_device
    from cycle_server.engine.translation import TranslationEngine  # transformers and sacreBLEU are only for
    from cycle_server.translations import score  # those who need them

    check_metrics(config.evaluation.metrics, known=METRICS[Task.TRANSLATION])
    rows = read_rows(
        Path(config.evaluation_path),
        fields=config.fields,
        kind="text",
        truth="translation",
        convert=str,
        maximum_rows=config.evaluation.maximum_rows,
    )
    texts = [row.content for row in rows]
    engine = TranslationEngine(
        Path(server.variant_path), threads=config.threads, device=choose_device(config.device, workers=config.workers)
    )
    items = engine.pre(texts)
    difference = changed_share(engine, items)
    asking = AskingTranslations(engine, texts)
    with busy_neighbours(server, engine.sample):
        times = measure(
            engine, asking, batch_sizes=sorted(set(config.batch_sizes)), lengths=sorted(set(config.sequence_lengths))
        )
    return Measured(
        metrics=score(
            config.evaluation.metrics, translations=translated(engine, items), references=[row.truth for row in rows]
        ),
        rows=times,
        batch_invariant=difference == 0,
        neighbour_difference=difference,
        bodies=asking.bodies(),
        workers=server.workers,
        threads=server.threads,
    )


def translated(engine: TranslationEngine, items: Items) -> list[str]:
    translations = [""] * len(items)
    for batch in batches(items):
        for place, text in zip(batch, engine.post(engine.compute([items[i] for i in batch])), strict=True):
            translations[place] = text
    return translations


def changed_share(engine: TranslationEngine, items: Items) -> float:
    """Of the texts, how many are translated otherwise in some batch with random others than alone."""
    items = items[:NEIGHBOUR_ITEMS]
    alone = [text for item in items for text in engine.post(engine.compute([item]))]
    changed = {
        place
        for batch in random_batches(len(items))
        for place, text in zip(batch, engine.post(engine.compute([items[i] for i in batch])), strict=True)
        if text != alone[place]
    }
    return len(changed) / len(items)
