"""Pruning by magnitude: whole heads and neurons are cut out, or single weights are set to zero and held there.

Structured pruning leaves a plain smaller model, which every kernel runs faster; masks leave the shapes, and dense
kernels gain nothing from them.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from cycle_server.engine.model import EncoderClassifier, encoder_layers

NEURON_MULTIPLE = 16  # rows of a matrix that kernels take at once


def prunable_linears(model: EncoderClassifier) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers of the encoder's layers, by the name of their module: what pruning and quantization change."""
    for index, layer in enumerate(encoder_layers(model)):
        for name, module in layer.named_modules():
            if isinstance(module, nn.Linear):
                yield f"encoder.encoder.layer.{index}.{name}", module


def prune_structured(model: EncoderClassifier, *, sparsity: float) -> None:
    """Cut this share of the heads and of the intermediate neurons out of every layer, those of the least magnitude.

    Each layer keeps at least one head and NEURON_MULTIPLE neurons (or all of them, if it has fewer).
    """
    with torch.no_grad():
        for layer in encoder_layers(model):
            _prune_heads(layer, sparsity=sparsity)
            _prune_neurons(layer, sparsity=sparsity)


def _prune_heads(layer: nn.Module, *, sparsity: float) -> None:
    attention, output = layer.attention.self, layer.attention.output.dense
    size: int = attention.attention_head_size
    heads: int = attention.query.out_features // size
    kept = max(1, heads - round(heads * sparsity))
    # A head's whole effect goes through its value and output weights.
    values = attention.value.weight.reshape(heads, -1).norm(dim=1)
    outputs = output.weight.reshape(output.out_features, heads, size).transpose(0, 1).reshape(heads, -1).norm(dim=1)
    chosen = _largest(values * outputs, count=kept)
    places = (chosen.unsqueeze(1) * size + torch.arange(size)).flatten()
    for name in ("query", "key", "value"):
        setattr(attention, name, _with_outputs(getattr(attention, name), places))
    layer.attention.output.dense = _with_inputs(output, places)
    attention.num_attention_heads = kept
    attention.all_head_size = kept * size


def _prune_neurons(layer: nn.Module, *, sparsity: float) -> None:
    into, out_of = layer.intermediate.dense, layer.output.dense
    neurons: int = into.out_features
    multiple = min(NEURON_MULTIPLE, neurons)
    kept = max(multiple, round(neurons * (1 - sparsity) / multiple) * multiple)
    magnitude = into.weight.norm(dim=1) * out_of.weight.norm(dim=0)
    chosen = _largest(magnitude, count=kept)
    layer.intermediate.dense = _with_outputs(into, chosen)
    layer.output.dense = _with_inputs(out_of, chosen)


def _largest(values: Tensor, *, count: int) -> Tensor:
    """Places of the largest values, rising."""
    return values.topk(count).indices.sort().values


def _with_outputs(linear: nn.Linear, places: Tensor) -> nn.Linear:
    smaller = nn.Linear(linear.in_features, len(places))
    smaller.weight.copy_(linear.weight[places])
    smaller.bias.copy_(linear.bias[places])
    return smaller


def _with_inputs(linear: nn.Linear, places: Tensor) -> nn.Linear:
    smaller = nn.Linear(len(places), linear.out_features)
    smaller.weight.copy_(linear.weight[:, places])
    smaller.bias.copy_(linear.bias)
    return smaller


class Masks:
    """Single weights held at zero: each layer's share of least magnitude."""

    def __init__(self, model: EncoderClassifier, *, sparsity: float) -> None:
        self._masks: list[tuple[nn.Linear, Tensor]] = []
        for _, linear in prunable_linears(model):
            magnitude = linear.weight.detach().abs().flatten()
            kept = torch.ones_like(magnitude)
            kept[magnitude.topk(round(len(magnitude) * sparsity), largest=False).indices] = 0
            self._masks.append((linear, kept.view_as(linear.weight)))
        self.apply()

    def apply(self) -> None:
        """Set the masked weights to zero again, as an optimizer step moves them."""
        with torch.no_grad():
            for linear, mask in self._masks:
                linear.weight.mul_(mask)
