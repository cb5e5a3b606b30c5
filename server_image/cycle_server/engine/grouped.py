"""Weights of 4 bits, and weights with a scale per group (docs/notes/2026-11-26-four-bits.md).

4 bits are how weights are stored. torch's kernels for them on a CPU are slower than those of floats and of 8 bits, so
they are made 8 bits or, with groups, floats when they are loaded.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cycle_server.engine.device import CPU, Device
from cycle_server.engine.quantized import FloatLinear, Linear, float_linear
from cycle_wire.parts import Granularity, Quantization

DEFAULT_GROUP_SIZE = 64
NIBBLE_OFFSET = 8  # of an integer from -8 to 7 that is stored as one from 0 to 15


def group_size_of(quantization: Quantization) -> int | None:
    """None where a scale is of all weights, or of those of an output."""
    if quantization.granularity is not Granularity.PER_GROUP:
        return None
    return quantization.group_size or DEFAULT_GROUP_SIZE


def pack_nibbles(integers: Tensor) -> Tensor:
    """int8 (out, in) from -8 to 7 -> uint8 (out, in / 2, rounded up)."""
    nibbles = (integers + NIBBLE_OFFSET).to(torch.uint8)
    if nibbles.shape[1] % 2:
        nibbles = torch.nn.functional.pad(nibbles, (0, 1), value=NIBBLE_OFFSET)
    return nibbles[:, ::2] | nibbles[:, 1::2] << 4


def unpack_nibbles(packed: Tensor, *, inputs: int) -> Tensor:
    """The reverse."""
    nibbles = torch.stack([packed & 15, packed >> 4], dim=2).flatten(1)[:, :inputs]
    return nibbles.to(torch.int8) - NIBBLE_OFFSET


def by_input(values: Tensor, *, inputs: int, group_size: int | None) -> Tensor:
    """What is said of a tensor (1,), of outputs (out,) or of groups (out, groups), for each weight.

    (1 or out, 1 or in), to be broadcast.
    """
    if values.ndim == 1:
        return values.unsqueeze(1)
    assert group_size is not None
    return values.repeat_interleave(group_size, dim=1)[:, :inputs]


@dataclass(frozen=True)
class GroupedWeights:
    """weight = (integers - zero_point) * scale.

    integers (out, in) int8; scale and zero_point (out, groups) float32, each for ``group_size`` inputs, the last for
    the rest; bias (out,) float32.
    """

    integers: Tensor
    scale: Tensor
    zero_point: Tensor
    bias: Tensor
    group_size: int

    @classmethod
    def stack(cls, parts: list["GroupedWeights"]) -> "GroupedWeights":
        """One layer that gives the parts' outputs side by side. All have the same inputs."""
        return cls(
            integers=torch.cat([part.integers for part in parts]),
            scale=torch.cat([part.scale for part in parts]),
            zero_point=torch.cat([part.zero_point for part in parts]),
            bias=torch.cat([part.bias for part in parts]),
            group_size=parts[0].group_size,
        )

    def dequantize(self, dtype: torch.dtype) -> FloatLinear:
        inputs, size = self.integers.shape[1], self.group_size
        scale, zero = (by_input(values, inputs=inputs, group_size=size) for values in (self.scale, self.zero_point))
        return FloatLinear(weight=((self.integers.float() - zero) * scale).to(dtype), bias=self.bias.to(dtype))

    def linear(self, *, dtype: torch.dtype, integers: bool, device: Device = CPU) -> Linear:  # noqa: ARG002
        """Values are never made integers: a product of integers would need one scale for each output."""
        return float_linear(self.dequantize(dtype), device)
