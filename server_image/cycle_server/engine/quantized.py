"""Linear layers as the encoder calls them: floats, or int8 weights with int8 activations.

Activations get one scale per token (symmetric, 8 bits), so an answer never depends on what else is in the batch.
torch.ao's dynamic quantization is up to a quarter faster, but takes one scale from the whole batch. Measurements and
reasons: docs/notes/2026-11-24-serving-kernels.md.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from cycle_server.engine.device import CPU, Device

INT8_MAXIMUM = 127.0
SMALLEST_SCALE = 1e-12  # of a token whose values are all 0


class Linear(Protocol):
    """x (tokens, in) -> (tokens, out), in the type of x."""

    def __call__(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class FloatLinear:
    """weight (out, in) and bias (out,) of one floating type."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


class PackedFloatLinear:
    """The same with weights packed once for oneDNN: 10 to 35 % faster, most for a short text."""

    def __init__(self, linear: FloatLinear) -> None:
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight)
        self._bias = linear.bias

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")
        return out


def float_linear(linear: FloatLinear, device: Device = CPU) -> Linear:
    """The fastest kernel for this device and type."""
    if not device.is_cpu:
        return FloatLinear(device.hold(linear.weight), device.hold(linear.bias))
    if not torch.backends.mkldnn.is_available():
        return linear
    if linear.weight.dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return linear
    return PackedFloatLinear(linear)


@dataclass(frozen=True)
class Int8Weights:
    """weight = (integers - zero_point) * scale.

    integers (out, in) int8, scale (out,) float32, zero_point (out,) int32, bias (out,) float32.
    """

    integers: Tensor
    scale: Tensor
    zero_point: Tensor
    bias: Tensor

    @classmethod
    def of(cls, *, integers: Tensor, scale: Tensor, zero_point: Tensor | None, bias: Tensor) -> "Int8Weights":
        """Scales and zero points per tensor, shape (1,), become one for each output."""
        outputs = integers.shape[0]
        if zero_point is None:
            zero_point = torch.zeros(1, dtype=torch.int32)
        return cls(
            integers=integers,
            scale=scale.float().expand(outputs).contiguous(),
            zero_point=zero_point.to(torch.int32).expand(outputs).contiguous(),
            bias=bias.float(),
        )

    @classmethod
    def stack(cls, parts: list["Int8Weights"]) -> "Int8Weights":
        """One layer that gives the parts' outputs side by side."""
        return cls(
            integers=torch.cat([part.integers for part in parts]),
            scale=torch.cat([part.scale for part in parts]),
            zero_point=torch.cat([part.zero_point for part in parts]),
            bias=torch.cat([part.bias for part in parts]),
        )

    def dequantize(self, dtype: torch.dtype) -> FloatLinear:
        """For variants that quantize only the weights."""
        shifted = self.integers.float() - self.zero_point.float()[:, None]
        return FloatLinear(weight=(shifted * self.scale[:, None]).to(dtype), bias=self.bias.to(dtype))

    def linear(self, *, dtype: torch.dtype, integers: bool, device: Device = CPU) -> Linear:
        """``integers``: activations are integers too, where the device has kernels for them. A CUDA device has not:
        torch's integer product there takes no fewer than 17 rows, so weights are made floats when they are loaded.
        """
        if integers and device.is_cpu:
            return int8_linear(self)
        return float_linear(self.dequantize(dtype), device)


class PortableInt8Linear:
    """Integer matrix product of quantized tokens and quantized weights, on any processor that torch supports.

    With q = w / scale + zero_point and x = a * t (t integers, a the token's scale):
    x @ w.T = a * scale * (t @ q.T - zero_point * sum(t)); the sums are exact in int32.
    """

    def __init__(self, weights: Int8Weights) -> None:
        self._integers = weights.integers.t()  # a view: the product reads rows of the stored layout
        self._scale = weights.scale / INT8_MAXIMUM
        self._bias = weights.bias
        self._offset = weights.zero_point.float() if bool(weights.zero_point.any()) else None

    def __call__(self, x: Tensor) -> Tensor:
        values = x.float()
        largest = _largest(values)
        tokens = (values * (INT8_MAXIMUM / largest)).round_().to(torch.int8)
        product = torch._int_mm(tokens, self._integers)
        if self._offset is None:
            out = product * largest
        else:
            sums = tokens.sum(dim=1, keepdim=True, dtype=torch.int32)
            out = torch.addcmul(product.float(), sums.float(), self._offset, value=-1).mul_(largest)
        return torch.addcmul(self._bias, out, self._scale).to(x.dtype)


class FbgemmInt8Linear:
    """The same with fbgemm's prepacked weights: 10 to 20 % faster for a short text on a processor with VNNI.

    Each token is divided by its largest value, so that one constant scale quantizes all of them. Without VNNI fbgemm
    adds pairs of products in 16 bits, which can saturate: see :func:`int8_linear`.
    """

    _ZERO_POINT = 128

    def __init__(self, weights: Int8Weights) -> None:
        with warnings.catch_warnings():  # torch announces the end of quantized tensors; the pinned version has them
            warnings.simplefilter("ignore", UserWarning)
            packed = torch._make_per_channel_quantized_tensor(
                weights.integers, weights.scale.double(), weights.zero_point.long(), 0
            )
            with _quantized_engine("fbgemm"):
                self._packed = torch.ops.quantized.linear_prepack(packed, None)
        self._bias = weights.bias

    def __call__(self, x: Tensor) -> Tensor:
        values = x.float()
        largest = _largest(values)
        product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            values / largest, 1 / INT8_MAXIMUM, self._ZERO_POINT, self._packed
        )
        return torch.addcmul(self._bias, product, largest).to(x.dtype)


def int8_linear(weights: Int8Weights) -> Linear:
    """The fastest kernel that is exact on this processor."""
    has_fbgemm = "fbgemm" in torch.backends.quantized.supported_engines
    return FbgemmInt8Linear(weights) if has_fbgemm and torch.cpu._is_vnni_supported() else PortableInt8Linear(weights)


def _largest(values: Tensor) -> Tensor:
    """Largest absolute value of each token, (tokens, 1), never 0. (torch's own infinity norm is 20 times slower.)"""
    return values.abs().amax(dim=1, keepdim=True).clamp_(min=SMALLEST_SCALE)


@contextmanager
def _quantized_engine(name: str) -> Iterator[None]:
    previous = torch.backends.quantized.engine
    torch.backends.quantized.engine = name
    try:
        yield
    finally:
        torch.backends.quantized.engine = previous
