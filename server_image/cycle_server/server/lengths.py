"""Refuses texts that are longer than the model reads, for the endpoints where they aren't cut."""

from collections.abc import Sequence

from cycle_server.engine.stages import ReadingTexts
from cycle_server.items import Items
from cycle_server.protocol.errors import ProtocolError


def refuse_cut(stages: ReadingTexts, texts: Sequence[str], tokens: Items, *, field: str) -> None:
    """Raises ProtocolError that names the first such text: ``field``, or ``field[i]`` when there are several."""
    index = stages.first_cut(texts, tokens)
    if index is not None:
        name = field if len(texts) == 1 else f"{field}[{index}]"
        raise ProtocolError(f"is longer than the {stages.maximum_tokens} tokens that the model reads", field=name)
