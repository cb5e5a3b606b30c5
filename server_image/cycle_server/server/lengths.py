"""Refuses texts that are longer than the model reads, for the endpoints where they aren't cut."""

from collections.abc import Sequence

from cycle_server.engine.stages import Tokens
from cycle_server.protocol.errors import ProtocolError
from cycle_server.server.lifecycle import Model


def refuse_cut(model: Model, texts: Sequence[str], tokens: Tokens, *, field: str) -> None:
    """Raises ProtocolError that names the first such text: ``field``, or ``field[i]`` when there are several."""
    index = model.engine.first_cut(texts, tokens)
    if index is not None:
        name = field if len(texts) == 1 else f"{field}[{index}]"
        raise ProtocolError(f"is longer than the {model.engine.maximum_tokens} tokens that the model reads", field=name)
