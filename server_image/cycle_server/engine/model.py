"""The model that training makes and serving runs: a pretrained encoder, mean pooling and a linear head.

A model folder holds ``config.json`` (of the encoder), ``model.safetensors``, the tokenizer's files and ``labels.json``.
Names in the weights file: ``encoder.*`` as transformers names them, ``classifier.weight`` and ``classifier.bias``.
Structured pruning leaves a plain smaller model: layer i has ``layers[i].heads`` heads of the same size and
``layers[i].intermediate_size`` neurons, all other shapes stay.

Training and serving share this file; it must not import anything that only one of them has.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig

from cycle_wire.variant import LayerShape

WEIGHTS_FILE = "model.safetensors"
SHARDS_INDEX = f"{WEIGHTS_FILE}.index.json"
LABELS_FILE = "labels.json"
# Families with BERT's layer layout, encoder.layer[i].{attention.self, attention.output, intermediate, output}.
SUPPORTED_FAMILIES = ("bert", "electra", "roberta", "xlm-roberta")


class UnsupportedModelError(ValueError):
    """The folder's config.json names an encoder whose layers this project doesn't know how to reshape."""


class EncoderClassifier(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Logits of each class for a padded batch of token ids.

    Shapes: input_ids and attention_mask (batch, tokens) int64, mask 1 for tokens and 0 for padding; logits
    (batch, classes) in the type of the head.
    """

    def __init__(self, encoder: nn.Module, *, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.config: PretrainedConfig = encoder.config
        self.classifier = nn.Linear(encoder.config.hidden_size, classes)

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Mean of the last hidden states over the tokens that aren't padding: (batch, hidden)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.to(hidden.dtype).unsqueeze(-1)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(input_ids, attention_mask))
        return logits


def encoder_layers(model: EncoderClassifier) -> Sequence[nn.Module]:
    layers: Sequence[nn.Module] = model.encoder.encoder.layer
    return layers


def build(folder: Path, *, classes: int, layers: Sequence[LayerShape] = ()) -> EncoderClassifier:
    """The model that ``folder/config.json`` describes, with new weights; ``layers`` empty means as configured.

    Raises OSError when there is no config.json and UnsupportedModelError for an unknown family.
    """
    model = of_config(read_config(folder), classes=classes)
    if layers:
        _reshape(model, layers)
    return model


def read_config(folder: Path) -> PretrainedConfig:
    """Raises OSError or ValueError for a bad config.json and UnsupportedModelError for an unknown family."""
    config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
    if config.model_type not in SUPPORTED_FAMILIES:
        known = ", ".join(SUPPORTED_FAMILIES)
        raise UnsupportedModelError(f"{folder}/config.json: model_type {config.model_type!r} is none of {known}")
    return config


def of_config(config: PretrainedConfig, *, classes: int) -> EncoderClassifier:
    """New weights, drawn from torch's generator."""
    return EncoderClassifier(AutoModel.from_config(config, add_pooling_layer=False), classes=classes)


def load(folder: Path, *, classes: int, layers: Sequence[LayerShape] = ()) -> EncoderClassifier:
    """A model of ours from its folder, in evaluation mode. Raises RuntimeError when names or shapes differ."""
    model = build(folder, classes=classes, layers=layers)
    model.load_state_dict(read_weights(folder))
    model.eval()
    return model


def load_pretrained(folder: Path, *, classes: int) -> EncoderClassifier:
    """A published encoder (its weights bare or under a ``bert.``-like prefix) under a new head.

    Raises RuntimeError when the file lacks weights of the encoder; it may have more (a pooler, another head).
    """
    model = build(folder, classes=classes)
    weights = read_weights(folder)
    prefix = next(
        (p for p in (f"{model.config.model_type}.", "encoder.encoder.") if any(k.startswith(p) for k in weights)), ""
    )
    if prefix == "encoder.encoder.":  # a model that this project trained
        prefix = "encoder."
    bare = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    missing = sorted(set(model.encoder.state_dict()) - bare.keys())
    if missing:
        raise RuntimeError(f"{folder / WEIGHTS_FILE} lacks {len(missing)} weights of the encoder, first {missing[0]}")
    model.encoder.load_state_dict(bare, strict=False)
    return model


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of model.safetensors. Raises OSError or safetensors.SafetensorError."""
    weights: dict[str, Tensor] = load_file(folder / WEIGHTS_FILE)
    return weights


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Plain safetensors; equal tensors give equal bytes, so that digests are reproducible."""
    save_file({name: weights[name].detach().contiguous() for name in sorted(weights)}, path, metadata={"format": "pt"})


def read_labels(folder: Path) -> list[str]:
    """Class names by index, as a trained model's labels.json holds them."""
    labels: list[str] = json.loads((folder / LABELS_FILE).read_text(encoding="utf-8"))
    return labels


def layer_shapes(model: EncoderClassifier) -> list[LayerShape]:
    """What each layer has now."""
    return [
        LayerShape(
            heads=layer.attention.self.query.out_features // layer.attention.self.attention_head_size,
            intermediate_size=layer.intermediate.dense.out_features,
        )
        for layer in encoder_layers(model)
    ]


def _reshape(model: EncoderClassifier, shapes: Sequence[LayerShape]) -> None:
    layers = encoder_layers(model)
    if len(shapes) != len(layers):
        raise ValueError(f"{len(shapes)} layer shapes for a model of {len(layers)} layers")
    hidden = model.config.hidden_size
    for layer, shape in zip(layers, shapes, strict=True):
        attention = layer.attention.self
        width = shape.heads * attention.attention_head_size
        for name in ("query", "key", "value"):
            setattr(attention, name, nn.Linear(hidden, width))
        attention.num_attention_heads = shape.heads
        attention.all_head_size = width
        layer.attention.output.dense = nn.Linear(width, hidden)
        layer.intermediate.dense = nn.Linear(hidden, shape.intermediate_size)
        layer.output.dense = nn.Linear(shape.intermediate_size, hidden)
