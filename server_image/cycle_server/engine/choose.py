"""The engine of a variant that answers in one go. Each imports only what it runs: transformers takes
seconds and memory.
"""

from __future__ import annotations  # the engines' types are there for type checkers only

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from cycle_server.engine.stages import read_manifest
from cycle_wire.parts import Task
from cycle_wire.serving import DeviceKind

if TYPE_CHECKING:
    from cycle_server.engine.image import ImageEngine
    from cycle_server.engine.pipeline import Engine
    from cycle_server.engine.recommender import Recommender
    from cycle_server.engine.translation import TranslationEngine

    Classifier: TypeAlias = Engine | ImageEngine | Recommender
    AnyEngine: TypeAlias = Classifier | TranslationEngine


def load_engine(folder: Path, *, threads: int, device: DeviceKind = DeviceKind.CPU, workers: int = 1) -> AnyEngine:
    """Raises BadVariantError, or BadInputError where there is no such device for so many ``workers``."""
    from cycle_server.engine.device import choose_device

    chosen = choose_device(device, workers=workers)
    task = read_manifest(folder).task
    if task is Task.IMAGE_CLASSIFICATION:
        from cycle_server.engine.image import ImageEngine

        return ImageEngine(folder, threads=threads, device=chosen)
    if task is Task.TRANSLATION:
        from cycle_server.engine.translation import TranslationEngine

        return TranslationEngine(folder, threads=threads, device=chosen)
    if task is Task.RECOMMENDATION:
        from cycle_server.engine.recommender import Recommender

        return Recommender(folder, threads=threads, device=chosen)
    from cycle_server.engine.pipeline import Engine

    return Engine(folder, threads=threads, device=chosen)
