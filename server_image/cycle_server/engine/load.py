"""Reads a variant's folder (cycle_wire.variant) and packs its weights for the engine's kernels. Unpickles nothing."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from cycle_server.engine.device import CPU, Device
from cycle_server.engine.encoder import ACTIVATIONS, Embeddings, Encoder, Layer, Norm
from cycle_server.engine.quantized import (
    FloatLinear,
    Linear,
    PackedFloatLinear,
    float_linear,
)
from cycle_server.engine.stages import read_manifest, read_tokenizer
from cycle_server.engine.stored import read_stacked
from cycle_server.errors import BadVariantError
from cycle_wire.parts import Activations, Precision
from cycle_wire.variant import VariantManifest

# Where the family's first position stands in the table of position embeddings.
FIRST_POSITION = {"bert": 0, "electra": 0, "roberta": 1, "xlm-roberta": 1}  # plus pad_token_id for the latter two
DTYPES = {Precision.FLOAT32: torch.float32, Precision.BFLOAT16: torch.bfloat16}


@dataclass(frozen=True)
class LoadedVariant:
    encoder: Encoder
    tokenizer: Tokenizer
    manifest: VariantManifest
    maximum_tokens: int


def load_variant(folder: Path, *, device: Device = CPU, verify: bool = True) -> LoadedVariant:
    """``verify`` compares the weights file with the manifest's digest. Raises BadVariantError."""
    manifest = read_manifest(folder)
    encoder = load_encoder(folder, manifest, classes=len(manifest.labels), device=device, verify=verify)
    maximum_tokens = longest(encoder, manifest)
    tokenizer = read_tokenizer(folder, maximum_tokens=maximum_tokens)
    return LoadedVariant(encoder=encoder, tokenizer=tokenizer, manifest=manifest, maximum_tokens=maximum_tokens)


def load_encoder(folder: Path, manifest: VariantManifest, *, classes: int, device: Device, verify: bool) -> Encoder:
    """Raises BadVariantError, also when the head hasn't so many classes."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
        if verify:
            check_digest(folder, manifest)
        weights: dict[str, Tensor] = load_file(folder / "model.safetensors")
        encoder = _Packer(weights, config, manifest, device).encoder()
    except (OSError, ValueError, SafetensorError) as error:
        raise BadVariantError(f"{folder}: {error}") from error
    except KeyError as error:
        raise BadVariantError(f"{folder}: lacks {error}") from error
    if (found := encoder.classifier.weight.shape[0]) != classes:
        raise BadVariantError(f"{folder}: {classes} labels for {found} classes")
    return encoder


def longest(encoder: Encoder, manifest: VariantManifest) -> int:
    """How many tokens are read of one text."""
    positions: int = encoder.embeddings.positions.shape[0]
    return min(manifest.maximum_sequence_length, positions)


class _Packer:
    """Builds an Encoder from named tensors. KeyError names a tensor or config key that is missing."""

    def __init__(
        self, weights: Mapping[str, Tensor], config: Mapping[str, Any], manifest: VariantManifest, device: Device
    ) -> None:
        self._weights = weights
        self._config = config
        self._manifest = manifest
        self._device = device
        self._dtype = DTYPES[manifest.variant.precision]
        self._quantized = frozenset(manifest.quantized_layers)
        self._quantization = manifest.variant.quantization
        self._head_size = config["hidden_size"] // config["num_attention_heads"]

    def encoder(self) -> Encoder:
        activation = self._config.get("hidden_act", "gelu")
        if activation not in ACTIVATIONS:
            raise BadVariantError(f"config.json: hidden_act {activation!r} is none of {', '.join(sorted(ACTIVATIONS))}")
        layers = [self._layer(f"encoder.encoder.layer.{i}.") for i in range(self._config["num_hidden_layers"])]
        self._compare_shapes(layers)
        classifier = FloatLinear(
            *(self._device.hold(self._weights[f"classifier.{part}"].float()) for part in ("weight", "bias"))
        )
        return Encoder(
            embeddings=self._embeddings("encoder."),
            layers=layers,
            head_size=self._head_size,
            activation=activation,
            classifier=classifier,
            device=self._device,
            sized=any(isinstance(linear, PackedFloatLinear) for layer in layers for linear in layer.linears),
        )

    def _compare_shapes(self, layers: list[Layer]) -> None:
        said = [shape.heads for shape in self._manifest.layers]
        found = [layer.heads for layer in layers]
        if said and said != found:
            raise BadVariantError(f"manifest.json: heads per layer {said}, the weights have {found}")

    def _float(self, name: str) -> Tensor:
        return self._weights[name].to(self._dtype)

    def _norm(self, name: str) -> Norm:
        weight, bias = (self._device.hold(self._float(f"{name}.{part}")) for part in ("weight", "bias"))
        return Norm(weight, bias, self._config.get("layer_norm_eps", 1e-12))

    def _embeddings(self, prefix: str) -> Embeddings:
        family = self._config["model_type"]
        if family not in FIRST_POSITION:
            raise BadVariantError(f"config.json: model_type {family!r} is none of {', '.join(sorted(FIRST_POSITION))}")
        first = FIRST_POSITION[family] and FIRST_POSITION[family] + self._config["pad_token_id"]
        positions = self._weights[f"{prefix}embeddings.position_embeddings.weight"][first:]
        types = self._weights[f"{prefix}embeddings.token_type_embeddings.weight"]
        projection = f"{prefix}embeddings_project"
        return Embeddings(
            words=self._device.hold(self._float(f"{prefix}embeddings.word_embeddings.weight")),
            positions=self._device.hold((positions.float() + types[0].float()).to(self._dtype)),
            norm=self._norm(f"{prefix}embeddings.LayerNorm"),
            projection=self._linear([projection]) if f"{projection}.weight" in self._weights else None,
        )

    def _layer(self, prefix: str) -> Layer:
        attention = f"{prefix}attention.self."
        return Layer(
            heads=self._weights[f"{attention}query.weight"].shape[0] // self._head_size,
            intermediate_size=self._weights[f"{prefix}intermediate.dense.weight"].shape[0],
            attention_in=self._linear([f"{attention}{part}" for part in ("query", "key", "value")]),
            attention_out=self._linear([f"{prefix}attention.output.dense"]),
            attention_norm=self._norm(f"{prefix}attention.output.LayerNorm"),
            intermediate=self._linear([f"{prefix}intermediate.dense"]),
            output=self._linear([f"{prefix}output.dense"]),
            output_norm=self._norm(f"{prefix}output.LayerNorm"),
        )

    def _linear(self, names: list[str]) -> Linear:
        """One layer that gives the outputs of ``names`` side by side; all of them are quantized or none is."""
        quantized = [name in self._quantized for name in names]
        if not any(quantized):
            weight = torch.cat([self._float(f"{name}.weight") for name in names])
            bias = torch.cat([self._float(f"{name}.bias") for name in names])
            return float_linear(FloatLinear(weight, bias), self._device)
        if not all(quantized):
            raise BadVariantError(f"manifest.json: quantizedLayers has some but not all of {', '.join(names)}")
        assert self._quantization is not None  # else no layer is
        stacked = read_stacked(self._weights, names, quantization=self._quantization)
        integers = self._quantization.activations is Activations.DYNAMIC
        return stacked.linear(dtype=self._dtype, integers=integers, device=self._device)


def check_digest(folder: Path, manifest: VariantManifest) -> None:
    """Raises BadVariantError unless the weights are those that the manifest names, and OSError."""
    path = folder / "model.safetensors"
    with path.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    if digest != manifest.weights_digest:
        raise BadVariantError(f"{path} has digest {digest}, its manifest says {manifest.weights_digest}")
