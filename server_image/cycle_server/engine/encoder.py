"""Forward pass of a BERT-like encoder with mean pooling and a linear head, over texts packed without padding.

The tokens of a batch stand one after the other in one (rows, hidden) matrix; only attention looks at each text apart.
So no text pays for the length of another, compute grows with the number of tokens, and a text's answer doesn't depend
on its neighbours. A few filler rows at the end make up one of the sizes that there are (sizes.py).
Computes what ``model.EncoderClassifier`` computes in evaluation mode.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cycle_server.engine.device import CPU, Device
from cycle_server.engine.quantized import FloatLinear, Linear
from cycle_server.engine.rectangle import Rectangle
from cycle_server.engine.sizes import padded

ACTIVATIONS = {
    "gelu": functional.gelu,
    "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
}


def plain_gelu(x: Tensor) -> Tensor:
    """torch's own kernel; for what is contiguous it takes oneDNN's, kept for each number of rows (sizes.py)."""
    return functional.gelu(x.t()).t()


@dataclass(frozen=True)
class Norm:
    weight: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True)
class Layer:
    """One encoder layer; ``attention_in`` gives query, key and value side by side."""

    heads: int
    intermediate_size: int
    attention_in: Linear
    attention_out: Linear
    attention_norm: Norm
    intermediate: Linear
    output: Linear
    output_norm: Norm

    @property
    def linears(self) -> tuple[Linear, ...]:
        return (self.attention_in, self.attention_out, self.intermediate, self.output)


@dataclass(frozen=True)
class Embeddings:
    """``positions`` (longest, size) already holds the type embedding of the first segment."""

    words: Tensor
    positions: Tensor
    norm: Norm
    projection: Linear | None


@dataclass(frozen=True)
class Encoder:
    """``sized``: layers of it are oneDNN's, which keep a kernel for each number of rows: it computes few (sizes.py)."""

    embeddings: Embeddings
    layers: Sequence[Layer]
    head_size: int
    activation: str
    classifier: FloatLinear
    device: Device = CPU
    sized: bool = True

    def logits(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """(texts, classes) float32 for token ids of texts, none of which is empty."""
        return self.classifier(self.embed(texts))

    def embed(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """(texts, hidden) float32: what the classifier sees of each text."""
        lengths = [len(text) for text in texts]
        tokens = sum(lengths)
        filler = padded(tokens) - tokens if self.sized else 0
        ids = torch.tensor([token for text in texts for token in text] + [0] * filler)
        hidden = self._embed(self.device.put(ids), lengths, filler)
        rectangle = Rectangle.of(lengths, self.device)
        for layer in self.layers:
            hidden = self._layer(layer, hidden, lengths, rectangle)
        return _means(hidden[:tokens], lengths) if rectangle is None else rectangle.means(hidden)

    def prepare(self, rows: int) -> None:
        """Has the kernels of a size made: layers of one shape share them, so one of each shape computes."""
        hidden = self._embed(self.device.put(torch.zeros(rows, dtype=torch.int64)), [1] * rows, 0)
        for layer in {(layer.heads, layer.intermediate_size): layer for layer in self.layers}.values():
            self._layer(layer, hidden, [1] * rows, None)

    def _embed(self, ids: Tensor, lengths: Sequence[int], filler: int) -> Tensor:
        positions = self.embeddings.positions
        parts = [positions[:n] for n in lengths]
        if filler:
            parts.append(positions[:1].expand(filler, -1))
        spread = parts[0] if len(parts) == 1 else torch.cat(parts)
        hidden = self.embeddings.norm(functional.embedding(ids, self.embeddings.words) + spread)
        return hidden if self.embeddings.projection is None else self.embeddings.projection(hidden)

    def _layer(self, layer: Layer, hidden: Tensor, lengths: Sequence[int], rectangle: Rectangle | None) -> Tensor:
        mixed = layer.attention_in(hidden)
        if rectangle is None:
            attended = layer.attention_out(self._attend(layer, mixed, lengths))
        else:
            attended = layer.attention_out(rectangle.attend(mixed, heads=layer.heads, head_size=self.head_size))
        hidden = layer.attention_norm(attended.add_(hidden))
        inner = self._activate(layer.intermediate(hidden))
        return layer.output_norm(layer.output(inner).add_(hidden))

    def _activate(self, x: Tensor) -> Tensor:
        if self.activation == "gelu" and self.device.is_cpu and not self.sized:
            return plain_gelu(x)
        return ACTIVATIONS[self.activation](x)

    def _attend(self, layer: Layer, mixed: Tensor, lengths: Sequence[int]) -> Tensor:
        """mixed (rows, 3 * heads * head_size) -> (rows, heads * head_size), 0 in filler rows."""
        first, count = lengths[0], len(lengths)
        groups = [(count, first)] if all(n == first for n in lengths) else [(1, n) for n in lengths]
        out = mixed.new_empty(mixed.shape[0], layer.heads * self.head_size)
        start = 0
        for texts, length in groups:
            end = start + texts * length
            query, key, value = (
                mixed[start:end].view(texts, length, 3, layer.heads, self.head_size).permute(2, 0, 3, 1, 4).unbind(0)
            )
            attended = functional.scaled_dot_product_attention(query, key, value)
            out[start:end].view(texts, length, layer.heads, self.head_size).copy_(attended.transpose(1, 2))
            start = end
        out[start:] = 0
        return out


def _means(hidden: Tensor, lengths: Sequence[int]) -> Tensor:
    """Mean over each text's tokens in float32: (texts, hidden)."""
    if len(lengths) == 1:
        return hidden.float().mean(dim=0, keepdim=True)
    return torch.stack([part.mean(dim=0) for part in hidden.float().split(list(lengths))])
