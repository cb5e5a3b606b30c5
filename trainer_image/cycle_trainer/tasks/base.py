"""What the loop needs to know about a task."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Batch:
    """One padded micro-batch: what the model takes by keyword, and what it should say. First dimension: rows."""

    inputs: dict[str, Tensor]
    targets: Tensor


class Task(Protocol):
    """Data, model and loss of one kind of training. The data is read and checked when the task is made."""

    @property
    def lengths(self) -> Sequence[int]:
        """A length of each training row in any unit, for batches of like lengths."""

    @property
    def labels(self) -> Sequence[str]:
        """Class names by index."""

    def pretrained(self) -> nn.Module:
        """The model that training starts from; its new parts are drawn from torch's generator."""

    def prepare(self, model: nn.Module, rows: Sequence[int]) -> None:
        """Set the model's new parts from some training rows, before the first step; called without gradients."""

    def head(self, model: nn.Module) -> Iterable[nn.Parameter]:
        """The new parameters, which learn faster."""

    def batch(self, rows: Sequence[int]) -> Batch:
        """The micro-batch of these training rows."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss over the batch's rows."""

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write all that serving needs into an empty folder."""
