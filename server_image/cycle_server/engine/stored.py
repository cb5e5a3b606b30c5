"""A quantized layer as a variant's weights file has it (cycle_wire.variant)."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from cycle_server.engine.device import CPU, Device
from cycle_server.engine.grouped import GroupedWeights, group_size_of, unpack_nibbles
from cycle_server.engine.quantized import Int8Weights, Linear
from cycle_server.errors import BadVariantError
from cycle_wire.parts import Quantization


class QuantizedWeights(Protocol):
    """Integers, and how they stand for floats."""

    def linear(self, *, dtype: torch.dtype, integers: bool, device: Device = CPU) -> Linear:
        """``integers``: the values may be made integers too."""


def read_stacked(
    weights: Mapping[str, Tensor], names: Sequence[str], *, quantization: Quantization
) -> QuantizedWeights:
    """One layer that gives the outputs of ``names`` side by side. Raises as ``read_layer`` does."""
    layers = [read_layer(weights, name, quantization=quantization) for name in names]
    if isinstance(layers[0], GroupedWeights):
        return GroupedWeights.stack([layer for layer in layers if isinstance(layer, GroupedWeights)])
    return Int8Weights.stack([layer for layer in layers if isinstance(layer, Int8Weights)])


def read_layer(
    weights: Mapping[str, Tensor],
    name: str,
    *,
    quantization: Quantization,
    shape: tuple[int, int] | None = None,
) -> GroupedWeights | Int8Weights:
    """``shape`` (out, in), where it is known. Without a bias it is 0.

    Raises BadVariantError when the integers aren't what the manifest says; KeyError for a tensor that is missing.
    """
    stored = weights[f"{name}.weight"]
    dtype = torch.uint8 if quantization.bits == 4 else torch.int8
    inputs = shape[1] if shape else stored.shape[1] * (2 if quantization.bits == 4 else 1)
    expected = (shape[0] if shape else stored.shape[0], -(-inputs // 2) if quantization.bits == 4 else inputs)
    if stored.dtype is not dtype or tuple(stored.shape) != expected:
        raise BadVariantError(
            f"{name}.weight is {_said(stored.dtype, stored.shape)}, the manifest says it is quantized to "
            f"{quantization.bits} bits: {_said(dtype, expected)}"
        )
    scale, zero_point = weights[f"{name}.weight_scale"], weights.get(f"{name}.weight_zero_point")
    bias = weights.get(f"{name}.bias", torch.zeros(stored.shape[0]))
    integers = unpack_nibbles(stored, inputs=inputs) if quantization.bits == 4 else stored
    group_size = group_size_of(quantization)
    if group_size is None:
        return Int8Weights.of(integers=integers, scale=scale, zero_point=zero_point, bias=bias)
    zeros = torch.zeros_like(scale) if zero_point is None else zero_point.float()
    if scale.shape != zeros.shape or tuple(scale.shape) != (stored.shape[0], -(-inputs // group_size)):
        raise BadVariantError(
            f"{name}: scales {tuple(scale.shape)} aren't of groups of {group_size} of {inputs} inputs"
        )
    return GroupedWeights(
        integers=integers, scale=scale.float(), zero_point=zeros, bias=bias.float(), group_size=group_size
    )


def _said(dtype: torch.dtype, shape: Sequence[int]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {tuple(shape)}"
