"""The engine of a classifier's variant. Each imports only what it runs: transformers takes seconds and memory."""

from __future__ import annotations  # the engines' types are there for type checkers only

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from cycle_server.engine.stages import read_manifest
from cycle_wire.parts import Task
from cycle_wire.serving import DeviceKind

if TYPE_CHECKING:
    from cycle_server.engine.image import ImageEngine
    from cycle_server.engine.pipeline import Engine

    AnyEngine: TypeAlias = Engine | ImageEngine


def load_engine(folder: Path, *, threads: int, device: DeviceKind = DeviceKind.CPU, workers: int = 1) -> AnyEngine:
    """Raises BadVariantError, or BadInputError where there is no such device for so many ``workers``."""
    from cycle_server.engine.device import choose_device

    chosen = choose_device(device, workers=workers)
    if read_manifest(folder).task is Task.IMAGE_CLASSIFICATION:
        from cycle_server.engine.image import ImageEngine

        return ImageEngine(folder, threads=threads, device=chosen)
    from cycle_server.engine.pipeline import Engine

    return Engine(folder, threads=threads, device=chosen)
