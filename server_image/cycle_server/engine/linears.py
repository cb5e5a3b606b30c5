"""Puts the engine's kernels into a model of transformers: each linear layer's weights are packed once."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from cycle_server.engine.device import CPU, Device
from cycle_server.engine.quantized import FloatLinear, Linear, PackedFloatLinear, float_linear
from cycle_server.engine.stored import read_layer
from cycle_server.errors import BadVariantError
from cycle_wire.parts import Activations, Quantization
from cycle_wire.variant import VariantManifest


class Packed(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """x (..., in) -> (..., out)."""

    def __init__(self, linear: Linear, *, inputs: int, outputs: int) -> None:
        super().__init__()
        self._linear = linear
        self.inputs = inputs
        self._outputs = outputs

    @property
    def sized(self) -> bool:
        """It keeps a kernel for each number of rows (engine/sizes.py)."""
        return isinstance(self._linear, PackedFloatLinear)

    @property
    def shape(self) -> tuple[int, int]:
        return self.inputs, self._outputs

    def forward(self, x: Tensor) -> Tensor:
        return self._linear(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], self._outputs)


def put_quantized(
    model: Any, weights: dict[str, Tensor], manifest: VariantManifest, *, dtype: torch.dtype, device: Device = CPU
) -> None:
    """Replaces the layers that are integers, and takes their tensors out of ``weights``. KeyError: one is missing.

    Raises BadVariantError.
    """
    quantization = manifest.variant.quantization or Quantization()
    integers = quantization.activations is Activations.DYNAMIC
    for name in manifest.quantized_layers:
        outputs, inputs = _shape(model, name)
        layer = read_layer(weights, name, quantization=quantization, shape=(outputs, inputs))
        linear = layer.linear(dtype=dtype, integers=integers, device=device)
        model.set_submodule(name, Packed(linear, inputs=inputs, outputs=outputs))
        for part in ("weight", "weight_scale", "weight_zero_point", "bias"):
            weights.pop(f"{name}.{part}", None)


def pack_floats(model: Any, *, device: Device = CPU) -> None:
    """All linear layers that are left; a weight that another module has too (a tied embedding) is copied."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear | Conv1D):
            weight = module.weight.data.t() if isinstance(module, Conv1D) else module.weight.data
            bias = torch.zeros(weight.shape[0], dtype=weight.dtype) if module.bias is None else module.bias.data
            linear = float_linear(FloatLinear(weight.contiguous(), bias), device)
            model.set_submodule(name, Packed(linear, inputs=weight.shape[1], outputs=weight.shape[0]))


def pack_model(
    model: Any, weights: dict[str, Tensor], *, manifest: VariantManifest, dtype: torch.dtype, device: Device = CPU
) -> Any:
    """The model in evaluation mode with the variant's ``weights``, which are used up, packed in its linear layers.

    KeyError: a tensor of a quantized layer is missing. Raises BadVariantError, and RuntimeError for a wrong shape.
    """
    put_quantized(model, weights, manifest, dtype=dtype, device=device)
    _fill(model, weights)
    model.eval()
    pack_floats(model, device=device)
    return model.to(device.place)


def sized_layers(model: Any) -> tuple[list[Packed], list[Packed]]:
    """One of each shape, for layers of one shape share kernels: those that see all rows, and the output layer."""
    output = model.get_output_embeddings()
    sized = [module for module in model.modules() if isinstance(module, Packed) and module.sized]
    inner = {layer.shape: layer for layer in sized if layer is not output}
    return list(inner.values()), [layer for layer in sized if layer is output]


def _shape(model: Any, name: str) -> tuple[int, int]:
    """Outputs, inputs."""
    try:
        module = model.get_submodule(name)
    except AttributeError as error:
        raise BadVariantError(f"manifest.json: quantizedLayers has {name!r}, which the model hasn't") from error
    if isinstance(module, Conv1D):
        return module.weight.shape[1], module.weight.shape[0]
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    raise BadVariantError(f"manifest.json: quantizedLayers has {name!r}, which is no linear layer")


def _fill(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Every weight of the model, but those that are tied. Raises BadVariantError."""
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected:
        raise BadVariantError(f"model.safetensors has {len(unexpected)} tensors too many, first {unexpected[0]}")
    model.tie_weights()
    table = model.get_input_embeddings().weight
    tied = {name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter is table}
    if lacking := [name for name in missing if name not in tied or len(tied) == 1]:
        raise BadVariantError(f"model.safetensors lacks {len(lacking)} tensors, first {lacking[0]}")
