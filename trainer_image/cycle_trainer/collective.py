"""What the ranks of a world do together. The loop knows only this; each backend's rules stay behind it.

Horovod 0.28.1: accumulation goes through ``backward_passes_per_step``; a gradient may be clipped only after
``synchronize()``, and then ``step()`` must skip its own; gradients are summed over the passes and averaged over ranks.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cycle_wire.parts import Backend

T = TypeVar("T")


class Collective(Protocol):
    """``rank`` of ``size``. Every method but ``stepping`` must be called by all ranks alike."""

    rank: int
    size: int

    def wrap(self, optimizer: Optimizer, *, model: nn.Module, accumulation: int) -> Optimizer:
        """The optimizer whose gradients are averaged over ranks after so many backward passes."""

    def synchronize(self, optimizer: Optimizer, *, loss: float) -> float:
        """Wait for the averaged gradients; the mean of the ranks' losses, which travels with them."""

    def stepping(self, optimizer: Optimizer) -> AbstractContextManager[None]:
        """Around ``optimizer.step()`` after ``synchronize``."""

    def broadcast(self, tensors: Mapping[str, Tensor]) -> None:
        """Everyone's tensors take rank 0's values, in place."""

    def broadcast_object(self, value: T) -> T:
        """Rank 0's value."""

    def gather(self, value: T) -> list[T]:
        """Every rank's value, by rank."""


class World(Collective, Protocol):
    """A collective of several processes, which can be proved."""

    @property
    def transport(self) -> str:
        """What carries the sums in fact."""

    def sum(self, value: float) -> float:
        """Sum over ranks."""


def join(backend: Backend) -> World:
    """Join the world that this process was started for, as one rank of it."""
    if backend is Backend.TORCHRUN:
        from cycle_trainer.torch_world import TorchWorld

        return TorchWorld()
    return Horovod()


class Alone:
    """One process and no transport."""

    rank = 0
    size = 1

    def wrap(self, optimizer: Optimizer, *, model: nn.Module, accumulation: int) -> Optimizer:  # noqa: ARG002
        return optimizer

    def synchronize(self, optimizer: Optimizer, *, loss: float) -> float:  # noqa: ARG002
        return loss

    def stepping(self, optimizer: Optimizer) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def broadcast(self, tensors: Mapping[str, Tensor]) -> None:
        """Nobody else is there."""

    def broadcast_object(self, value: T) -> T:
        return value

    def gather(self, value: T) -> list[T]:
        return [value]


class Horovod:
    """Horovod over MPI or Gloo, as it was started. Joins the world when made."""

    def __init__(self) -> None:
        import horovod.torch as hvd

        hvd.init()
        self._hvd: Any = hvd
        self.rank: int = hvd.rank()
        self.size: int = hvd.size()

    @property
    def transport(self) -> str:
        """What carries the CPU operations in fact."""
        return "MPI" if self._hvd.mpi_enabled() else "Gloo"

    def wrap(self, optimizer: Optimizer, *, model: nn.Module, accumulation: int) -> Optimizer:
        wrapped: Optimizer = self._hvd.DistributedOptimizer(
            optimizer,
            named_parameters=model.named_parameters(),
            backward_passes_per_step=accumulation,
            op=self._hvd.Average,
        )
        return wrapped

    def synchronize(self, optimizer: Any, *, loss: float) -> float:
        # A name of its own, so that Horovod's response cache knows it again in the next step.
        handle = self._hvd.allreduce_async(torch.tensor([loss], dtype=torch.float64), name="loss", op=self._hvd.Average)
        optimizer.synchronize()
        return float(self._hvd.synchronize(handle)[0])

    def stepping(self, optimizer: Any) -> AbstractContextManager[None]:
        skipping: AbstractContextManager[None] = optimizer.skip_synchronize()
        return skipping

    def broadcast(self, tensors: Mapping[str, Tensor]) -> None:
        self._hvd.broadcast_parameters(dict(tensors), root_rank=0)

    def broadcast_object(self, value: T) -> T:
        result: T = self._hvd.broadcast_object(value, root_rank=0)
        return result

    def gather(self, value: T) -> list[T]:
        values: list[T] = self._hvd.allgather_object(value)
        return values

    def sum(self, value: float) -> float:
        """Sum over ranks."""
        tensor = torch.tensor([value], dtype=torch.float64)
        return float(self._hvd.allreduce(tensor, name="sum", op=self._hvd.Sum)[0])
