"""What a step is asked for. No torch here: who decides about steps needs none."""

from collections.abc import Sequence
from dataclasses import dataclass

BLOCK_TOKENS = 16


class ChatError(ValueError):
    """The messages don't fit the model's chat template, or it has none."""


@dataclass(frozen=True)
class Chunk:
    """Tokens of one sequence that a step computes, the first at ``position``; the ones before are in the pool already.

    ``blocks``: the sequence's own, for all its tokens up to the last of these.
    """

    tokens: Sequence[int]
    position: int
    blocks: Sequence[int]


@dataclass(frozen=True)
class Sampling:
    """``temperature`` 0: always the likeliest token. ``top_k`` 0: all. ``seed`` None: another answer each time."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None

    @property
    def deterministic(self) -> bool:
        """A seed makes the draws the same, but what is drawn from still moves with rounding, and so with neighbours."""
        return self.temperature == 0 or self.top_k == 1
