"""Units of a layer that can be removed whole: attention heads, neurons. The same for every family of models.

A unit is some outputs of one or more linear layers and the inputs of another that take them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

Linear: TypeAlias = nn.Module  # nn.Linear, or GPT-2's Conv1D
NEURON_MULTIPLE = 16  # rows of a matrix that kernels take at once


@dataclass(frozen=True, kw_only=True)
class Part:
    """The linear layer ``owner.name``, of which each unit has ``width`` outputs (or inputs)."""

    owner: nn.Module
    name: str
    width: int = 1
    judged: bool = True  # its weights say how much the unit matters

    @property
    def linear(self) -> Linear:
        linear: Linear = getattr(self.owner, self.name)
        return linear


@dataclass(frozen=True, kw_only=True)
class Units:
    """``count`` units: the outputs of ``outputs``, in the same order, taken in by ``inputs``."""

    count: int
    outputs: Sequence[Part]
    inputs: Part
    multiple: int = 1

    def kept(self, sparsity: float) -> int:
        """How many stay, at least ``multiple`` (or all of them, if there are fewer)."""
        multiple = min(self.multiple, self.count)
        return max(multiple, round(self.count * (1 - sparsity) / multiple) * multiple)

    def magnitude(self) -> Tensor:
        """(count,) product of the norms of each unit's weights: its whole effect goes through all of them."""
        result = _norms(matrix(self.inputs.linear).t(), self.count)
        for part in self.outputs:
            if part.judged:
                result = result * _norms(matrix(part.linear), self.count)
        return result

    def prune(self, sparsity: float) -> None:
        """Cut out the share of the units that has the least magnitude."""
        with torch.no_grad():
            chosen = self.magnitude().topk(self.kept(sparsity)).indices.sort().values
            for part in self.outputs:
                setattr(part.owner, part.name, selected(part.linear, outputs=_places(chosen, part.width)))
            part = self.inputs
            setattr(part.owner, part.name, selected(part.linear, inputs=_places(chosen, part.width)))


def _norms(weight: Tensor, count: int) -> Tensor:
    return weight.detach().reshape(count, -1).norm(dim=1)


def _places(units: Tensor, width: int) -> Tensor:
    return (units.unsqueeze(1) * width + torch.arange(width)).flatten()


def matrix(linear: Linear) -> Tensor:
    """The weight as a view (out, in); transformers' Conv1D stores it the other way round."""
    weight: Tensor = linear.weight.t() if isinstance(linear, Conv1D) else linear.weight
    return weight


def selected(linear: Linear, *, outputs: Tensor | None = None, inputs: Tensor | None = None) -> Linear:
    """A smaller layer of the same kind with these outputs or inputs only."""
    weight = matrix(linear)
    weight = weight if outputs is None else weight[outputs]
    weight = weight if inputs is None else weight[:, inputs]
    smaller = (
        Conv1D(weight.shape[0], weight.shape[1])
        if isinstance(linear, Conv1D)
        else nn.Linear(weight.shape[1], weight.shape[0], bias=linear.bias is not None)
    )
    matrix(smaller).copy_(weight)
    if linear.bias is not None:
        smaller.bias.copy_(linear.bias if outputs is None else linear.bias[outputs])
    return smaller


def linears_of(layers: nn.Module, *, prefix: str) -> Iterator[tuple[str, Linear]]:
    """Every linear layer in a list of layers, by the name of its module in the model."""
    for name, module in layers.named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            yield f"{prefix}.{name}", module
