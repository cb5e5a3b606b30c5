"""Integers as cycle_wire.variant says them, written and read by code of the tests' own."""

import torch

from cycle_wire.parts import Granularity, Quantization, Scheme


def quantized(name: str, weight: torch.Tensor, quantization: Quantization) -> dict[str, torch.Tensor]:
    """The tensors of one layer; weight (out, in)."""
    outputs, inputs = weight.shape
    size = quantization.group_size or 64 if quantization.granularity is Granularity.PER_GROUP else inputs
    groups = weight.view(outputs, inputs // size, size)
    largest = 2 ** (quantization.bits - 1) - 1
    if quantization.scheme is Scheme.SYMMETRIC:
        scale = groups.abs().amax(dim=2) / largest
        zero_point = torch.zeros_like(scale)
    else:
        scale = (groups.amax(dim=2) - groups.amin(dim=2)) / (2 * largest + 1)
        zero_point = (-largest - 1 - groups.amin(dim=2) / scale).round()
    integers = (groups / scale[:, :, None] + zero_point[:, :, None]).round().clamp(-largest - 1, largest)
    integers = integers.view(outputs, inputs).to(torch.int8)
    if quantization.bits == 4:
        halves = (integers + 8).to(torch.uint8)
        integers = halves[:, 0::2] + 16 * halves[:, 1::2]
    if quantization.granularity is not Granularity.PER_GROUP:
        scale, zero_point = scale[:, 0], zero_point[:, 0]
    parts = {f"{name}.weight": integers, f"{name}.weight_scale": scale.contiguous()}
    if quantization.scheme is Scheme.ASYMMETRIC:
        parts[f"{name}.weight_zero_point"] = zero_point.to(torch.int32).contiguous()
    return parts


def restored(name: str, stored: dict[str, torch.Tensor]) -> torch.Tensor:
    """The floats that a layer's tensors stand for; (out, in)."""
    integers, scale = stored[f"{name}.weight"], stored[f"{name}.weight_scale"].float()
    if integers.dtype is torch.uint8:
        integers = torch.stack([integers % 16, integers // 16], dim=2).flatten(1).float() - 8
    zero_point = stored.get(f"{name}.weight_zero_point", torch.zeros_like(scale)).float()
    groups = integers.float().view(integers.shape[0], scale.shape[1] if scale.ndim == 2 else 1, -1)
    floats = (groups - zero_point.view(len(groups), -1, 1)) * scale.view(len(groups), -1, 1)
    return floats.view(len(groups), -1)
