"""Weights as 8-bit integers, in the format of cycle_wire.variant: weight = (q - zero_point) * scale."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cycle_wire.parts import Granularity, Quantization, Scheme

SYMMETRIC_MAXIMUM = 127
ASYMMETRIC_MINIMUM, ASYMMETRIC_MAXIMUM = -128, 127
SMALLEST_SCALE = 1e-12  # of a row whose weights are all 0


@dataclass(frozen=True)
class QuantizedWeight:
    """integers int8 (out, in); scale float32 and zero_point int32 (out,) or (1,); no zero_point when symmetric."""

    integers: Tensor
    scale: Tensor
    zero_point: Tensor | None

    def dequantize(self) -> Tensor:
        """float32 (out, in)."""
        shifted = self.integers.float()
        if self.zero_point is not None:
            shifted = shifted - self.zero_point.float().unsqueeze(1)
        return shifted * self.scale.unsqueeze(1)

    def named(self, module: str) -> dict[str, Tensor]:
        """The tensors as a weights file names them."""
        tensors = {f"{module}.weight": self.integers, f"{module}.weight_scale": self.scale}
        if self.zero_point is not None:
            tensors[f"{module}.weight_zero_point"] = self.zero_point
        return tensors


def quantize(weight: Tensor, *, quantization: Quantization) -> QuantizedWeight:
    """weight (out, in), rounded to the nearest of 255 (symmetric) or 256 (asymmetric) even steps."""
    weight = weight.detach().float()
    rows = weight if quantization.granularity is Granularity.PER_CHANNEL else weight.reshape(1, -1)
    if quantization.scheme is Scheme.SYMMETRIC:
        scale = (rows.abs().amax(dim=1) / SYMMETRIC_MAXIMUM).clamp(min=SMALLEST_SCALE)
        integers = (weight / scale.unsqueeze(1)).round().clamp(-SYMMETRIC_MAXIMUM, SYMMETRIC_MAXIMUM)
        return QuantizedWeight(integers=integers.to(torch.int8), scale=scale, zero_point=None)
    # The range includes 0, so that a pruned weight stays exactly 0.
    low, high = rows.amin(dim=1).clamp(max=0), rows.amax(dim=1).clamp(min=0)
    scale = ((high - low) / (ASYMMETRIC_MAXIMUM - ASYMMETRIC_MINIMUM)).clamp(min=SMALLEST_SCALE)
    zero_point = (ASYMMETRIC_MINIMUM - low / scale).round().clamp(ASYMMETRIC_MINIMUM, ASYMMETRIC_MAXIMUM)
    integers = (weight / scale.unsqueeze(1)).round() + zero_point.unsqueeze(1)
    return QuantizedWeight(
        integers=integers.clamp(ASYMMETRIC_MINIMUM, ASYMMETRIC_MAXIMUM).to(torch.int8),
        scale=scale,
        zero_point=zero_point.to(torch.int32),
    )
