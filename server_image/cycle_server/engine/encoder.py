"""Forward pass of a BERT-like encoder with mean pooling and a linear head, over texts packed without padding.

The tokens of a batch stand one after the other in one (tokens, hidden) matrix; only attention looks at each text apart.
So padding costs nothing, compute grows with the number of tokens, and a text's answer doesn't depend on its neighbours.
Computes what ``model.EncoderClassifier`` computes in evaluation mode.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cycle_server.engine.quantized import FloatLinear, Linear

ACTIVATIONS = {
    "gelu": functional.gelu,
    "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
}


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
    attention_in: Linear
    attention_out: Linear
    attention_norm: Norm
    intermediate: Linear
    output: Linear
    output_norm: Norm


@dataclass(frozen=True)
class Embeddings:
    """``positions`` (longest, size) already holds the type embedding of the first segment."""

    words: Tensor
    positions: Tensor
    norm: Norm
    projection: Linear | None


@dataclass(frozen=True)
class Encoder:
    embeddings: Embeddings
    layers: Sequence[Layer]
    head_size: int
    activation: str
    classifier: FloatLinear

    def logits(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """(texts, classes) float32 for token ids of texts, none of which is empty."""
        return self.classifier(self.embed(texts))

    def embed(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """(texts, hidden) float32: what the classifier sees of each text."""
        lengths = [len(text) for text in texts]
        ids = torch.tensor([token for text in texts for token in text])
        hidden = self._embed(ids, lengths)
        for layer in self.layers:
            hidden = self._layer(layer, hidden, lengths)
        return _means(hidden, lengths)

    def _embed(self, ids: Tensor, lengths: Sequence[int]) -> Tensor:
        positions = self.embeddings.positions
        spread = positions[: lengths[0]] if len(lengths) == 1 else torch.cat([positions[:n] for n in lengths])
        hidden = self.embeddings.norm(functional.embedding(ids, self.embeddings.words) + spread)
        return hidden if self.embeddings.projection is None else self.embeddings.projection(hidden)

    def _layer(self, layer: Layer, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        attended = layer.attention_out(self._attend(layer, layer.attention_in(hidden), lengths))
        hidden = layer.attention_norm(attended.add_(hidden))
        inner = ACTIVATIONS[self.activation](layer.intermediate(hidden))
        return layer.output_norm(layer.output(inner).add_(hidden))

    def _attend(self, layer: Layer, mixed: Tensor, lengths: Sequence[int]) -> Tensor:
        """mixed (tokens, 3 * heads * head_size) -> (tokens, heads * head_size)."""
        first, count = lengths[0], len(lengths)
        if all(n == first for n in lengths):
            return self._attend_equal(layer, mixed, count, first)
        return torch.cat([self._attend_equal(layer, part, 1, part.shape[0]) for part in mixed.split(list(lengths))])

    def _attend_equal(self, layer: Layer, mixed: Tensor, count: int, length: int) -> Tensor:
        query, key, value = mixed.view(count, length, 3, layer.heads, self.head_size).permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(query, key, value)
        return attended.transpose(1, 2).reshape(count * length, layer.heads * self.head_size)


def _means(hidden: Tensor, lengths: Sequence[int]) -> Tensor:
    """Mean over each text's tokens in float32: (texts, hidden)."""
    if len(lengths) == 1:
        return hidden.float().mean(dim=0, keepdim=True)
    return torch.stack([part.mean(dim=0) for part in hidden.float().split(list(lengths))])
