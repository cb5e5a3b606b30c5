"""Weights as integers of 8 or 4 bits, in the format of cycle_wire.variant: weight = (q - zero_point) * scale."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cycle_server.engine.grouped import by_input, group_size_of, pack_nibbles
from cycle_wire.parts import Granularity, Quantization, Scheme

SMALLEST_SCALE = 1e-12  # of weights that are all 0


@dataclass(frozen=True)
class QuantizedWeight:
    """integers int8 (out, in); scale float32 and zero_point int32 (out,), (1,) or (out, groups), the last group may be
    shorter than ``group_size``; no zero_point when symmetric.
    """

    integers: Tensor
    scale: Tensor
    zero_point: Tensor | None
    bits: int
    group_size: int | None

    def dequantize(self) -> Tensor:
        """float32 (out, in)."""
        inputs = self.integers.shape[1]
        shifted = self.integers.float()
        if self.zero_point is not None:
            shifted = shifted - by_input(self.zero_point.float(), inputs=inputs, group_size=self.group_size)
        return shifted * by_input(self.scale, inputs=inputs, group_size=self.group_size)

    def named(self, module: str) -> dict[str, Tensor]:
        """The tensors as a weights file names them."""
        stored = pack_nibbles(self.integers) if self.bits == 4 else self.integers
        tensors = {f"{module}.weight": stored, f"{module}.weight_scale": self.scale}
        if self.zero_point is not None:
            tensors[f"{module}.weight_zero_point"] = self.zero_point
        return tensors


def quantize(weight: Tensor, *, quantization: Quantization) -> QuantizedWeight:
    """weight (out, in), rounded to the nearest of 2^bits even steps, one less when symmetric."""
    weight = weight.detach().float()
    outputs, inputs = weight.shape
    group_size = group_size_of(quantization)
    rows = _sharing_a_scale(weight, quantization)
    maximum = 2 ** (quantization.bits - 1) - 1
    minimum = -maximum - 1
    if quantization.scheme is Scheme.SYMMETRIC:
        scale = (rows.abs().amax(dim=1) / maximum).clamp(min=SMALLEST_SCALE)
        integers = (rows / scale.unsqueeze(1)).round().clamp(-maximum, maximum)
        zero_point = None
    else:
        # The range includes 0, so that a pruned weight stays exactly 0.
        low, high = rows.amin(dim=1).clamp(max=0), rows.amax(dim=1).clamp(min=0)
        scale = ((high - low) / (maximum - minimum)).clamp(min=SMALLEST_SCALE)
        zero_point = (minimum - low / scale).round().clamp(minimum, maximum)
        integers = ((rows / scale.unsqueeze(1)).round() + zero_point.unsqueeze(1)).clamp(minimum, maximum)
        zero_point = zero_point.to(torch.int32)
    if group_size is not None:
        scale = scale.view(outputs, -1)
        zero_point = zero_point.view(outputs, -1) if zero_point is not None else None
    return QuantizedWeight(
        integers=integers.reshape(outputs, -1)[:, :inputs].to(torch.int8).contiguous(),
        scale=scale,
        zero_point=zero_point,
        bits=quantization.bits,
        group_size=group_size,
    )


def _sharing_a_scale(weight: Tensor, quantization: Quantization) -> Tensor:
    """(scales, weights of each); the last group of an output is filled up with zeros."""
    group_size = group_size_of(quantization)
    if group_size is not None:
        missing = -weight.shape[1] % group_size
        return torch.nn.functional.pad(weight, (0, missing)).reshape(-1, group_size)
    return weight if quantization.granularity is Granularity.PER_CHANNEL else weight.reshape(1, -1)
