"""What the loop and the compression need to know about a task."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from cycle_trainer.families.units import Linear
from cycle_wire.reports import Baseline
from cycle_wire.variant import LayerShape


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
        """Class names by index; empty for a task without classes."""

    @property
    def starts_from_random_weights(self) -> bool:
        """The model's folder has no weights: they are drawn from the seed."""

    def pretrained(self) -> nn.Module:
        """The model that training starts from; its new parts are drawn from torch's generator."""

    def prepare(self, model: nn.Module, rows: Sequence[int]) -> None:
        """Set the model's new parts from some training rows, before the first step; called without gradients."""

    def head(self, model: nn.Module) -> Iterable[nn.Parameter]:
        """The new parameters, which learn faster."""

    def freeze(self, model: nn.Module) -> None:
        """Leave out of training what doesn't learn; done already in what ``pretrained`` gives."""

    def batch(self, rows: Sequence[int]) -> Batch:
        """The micro-batch of these training rows."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss over what the batch has to teach."""

    def load(self, folder: Path) -> nn.Module:
        """A trained model from the folder that ``weights`` and ``write_companions`` filled, in evaluation mode."""

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """What the weights file holds, by name."""

    def write_companions(self, model: nn.Module, folder: Path) -> None:
        """Write all that serving needs beside the weights."""

    def baselines(self, rows: Sequence[int]) -> list[Baseline]:
        """What simple models that learn from these training rows reach on the evaluation rows.

        Raises BadInputError for a metric that the task doesn't have.
        """

    def linears(self, model: nn.Module) -> Iterator[tuple[str, Linear]]:
        """What pruning and quantization change, by the name of the module in ``weights``."""

    def prune(self, model: nn.Module, *, sparsity: float) -> None:
        """Cut whole heads and neurons out of the model: the share of least magnitude in every layer."""

    def shapes(self, model: nn.Module) -> list[LayerShape]:
        """Of every layer."""
