"""torch.distributed as the ranks' world, started by torchrun. Its rules stay here.

Gradients are averaged in buckets while the backward pass goes on. Unlike Horovod nobody negotiates which tensor is
next, so every rank sums the same buckets in the same order: that of the model's parameters, from the last, whose
gradients come first.
"""

import atexit
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

T = TypeVar("T")
BUCKET_BYTES = 32 * 1024 * 1024


class TorchWorld:
    """Joins the world when made, as the environment says (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT)."""

    def __init__(self) -> None:
        dist.init_process_group("gloo")
        atexit.register(dist.destroy_process_group)  # else its threads abort a process that ends by itself
        self.rank: int = dist.get_rank()
        self.size: int = dist.get_world_size()
        self._reducer: Reducer | None = None

    @property
    def transport(self) -> str:
        """What carries the sums in fact."""
        return str(dist.get_backend()).capitalize()

    def wrap(self, optimizer: Optimizer, *, model: nn.Module, accumulation: int) -> Optimizer:
        self._reducer = Reducer([p for p in model.parameters() if p.requires_grad], passes=accumulation)
        return optimizer

    def synchronize(self, optimizer: Optimizer, *, loss: float) -> float:  # noqa: ARG002
        if self._reducer is None:
            raise RuntimeError("wrap the optimizer first")
        self._reducer.finish()
        return self.sum(loss) / self.size

    def stepping(self, optimizer: Optimizer) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def broadcast(self, tensors: Mapping[str, Tensor]) -> None:
        for name in sorted(tensors):
            dist.broadcast(tensors[name].detach(), src=0)

    def broadcast_object(self, value: T) -> T:
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def sum(self, value: float) -> float:
        """Sum over ranks."""
        tensor = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(tensor)
        return float(tensor[0])


class Reducer:
    """Averages the gradients over ranks after ``passes`` backward passes, bucket by bucket as they become ready."""

    def __init__(self, parameters: Sequence[nn.Parameter], *, passes: int) -> None:
        self._passes = passes
        self._buckets = buckets_of(list(reversed(parameters)))
        self._bucket_of = {id(p): number for number, bucket in enumerate(self._buckets) for p in bucket}
        self._missing: list[int] = []
        self._sums: list[tuple[Tensor, dist.Work]] = []
        self._begin()
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._accumulated)

    def _begin(self) -> None:
        self._missing = [len(bucket) * self._passes for bucket in self._buckets]
        self._sums = []

    def _accumulated(self, parameter: Tensor) -> None:
        self._missing[self._bucket_of[id(parameter)]] -= 1
        while len(self._sums) < len(self._buckets) and self._missing[len(self._sums)] == 0:
            self._send()

    def _send(self) -> None:
        """Start the sum of the next bucket. A parameter that took no part in the loss has a gradient of zero."""
        parts = [(p.grad if p.grad is not None else torch.zeros_like(p)) for p in self._buckets[len(self._sums)]]
        flat = torch.cat([part.reshape(-1) for part in parts])
        work = dist.all_reduce(flat, async_op=True)
        assert work is not None  # this rank is of the group
        self._sums.append((flat, work))

    def finish(self) -> None:
        """Wait until every gradient is the mean over ranks."""
        while len(self._sums) < len(self._buckets):
            self._send()
        size = dist.get_world_size()
        for bucket, (flat, work) in zip(self._buckets, self._sums, strict=True):
            work.wait()
            flat /= size
            parts = flat.split([parameter.numel() for parameter in bucket])
            for parameter, part in zip(bucket, parts, strict=True):
                parameter.grad = part.view_as(parameter)
        self._begin()


def buckets_of(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """The parameters in their order, in buckets of one type and about BUCKET_BYTES."""
    buckets: list[list[nn.Parameter]] = []
    room = 0
    for parameter in parameters:
        size = parameter.numel() * parameter.element_size()
        if not buckets or size > room or buckets[-1][0].dtype != parameter.dtype:
            buckets.append([])
            room = BUCKET_BYTES
        buckets[-1].append(parameter)
        room -= size
    return buckets
