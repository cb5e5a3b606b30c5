"""Image classifiers of the vision transformer and ConvNeXt families: load, cut, and say what is in them.

A ConvNeXt is a convolutional network whose wide layers are pointwise, that is linear (Liu et al. 2022): its neurons are
cut and quantized like a transformer's. Its depthwise and downsampling convolutions are a small part of the weights and
stay as they are. It normalizes each place by itself, so ranks needn't agree on the statistics of a batch.
"""

from collections.abc import Iterator
from pathlib import Path

from torch import nn
from transformers import AutoModelForImageClassification, PretrainedConfig, PreTrainedModel

from cycle_server.engine.model import read_weights
from cycle_trainer.families.folder import config_of
from cycle_trainer.families.units import NEURON_MULTIPLE, Linear, Part, Units, linears_of
from cycle_wire.variant import LayerShape

VIT, CONVNEXT = "vit", "convnext"
SUPPORTED_FAMILIES = (CONVNEXT, VIT)


def read_config(folder: Path) -> PretrainedConfig:
    """Raises OSError or ValueError for a bad config.json and UnsupportedModelError for an unknown family."""
    return config_of(folder, families=SUPPORTED_FAMILIES)


def random_model(config: PretrainedConfig) -> PreTrainedModel:
    """Weights drawn from torch's generator, as the family draws them. ``config`` names the classes."""
    model: PreTrainedModel = AutoModelForImageClassification.from_config(config)
    return model.float()


def load(folder: Path) -> PreTrainedModel:
    """A model that was trained here, in evaluation mode. Raises RuntimeError when names or shapes differ."""
    model = random_model(read_config(folder))
    model.load_state_dict(read_weights(folder))
    model.eval()
    return model


def load_pretrained(folder: Path, config: PretrainedConfig) -> PreTrainedModel:
    """A published model under a new head for the classes of ``config``.

    Raises RuntimeError when weights are missing, and whatever transformers raises for files that it can't read.
    """
    model, found = AutoModelForImageClassification.from_pretrained(
        str(folder),
        config=config,
        local_files_only=True,
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    if missing := sorted(name for name in found["missing_keys"] if not name.startswith("classifier.")):
        raise RuntimeError(f"{folder} lacks {len(missing)} weights, first {missing[0]}")
    model.classifier.reset_parameters()  # its classes are others, even if they are as many
    loaded: PreTrainedModel = model.float()
    return loaded


def linears(model: PreTrainedModel) -> Iterator[tuple[str, Linear]]:
    """Of the layers; patches, convolutions and the head stay floats."""
    if model.config.model_type == VIT:
        return linears_of(model.vit.layers, prefix="vit.layers")
    return linears_of(model.convnext.encoder.stages, prefix="convnext.encoder.stages")


def prune(model: PreTrainedModel, *, sparsity: float) -> None:
    """Cut this share of heads and neurons out of every layer."""
    if model.config.model_type == CONVNEXT:
        for layer in convnext_layers(model):
            _neurons(layer, first="pwconv1", second="pwconv2").prune(sparsity)
        return
    for layer in model.vit.layers:
        attention = layer.attention
        heads = _heads(attention)
        heads.prune(sparsity)
        attention.num_attention_heads = heads.kept(sparsity)
        _neurons(layer.mlp, first="fc1", second="fc2").prune(sparsity)


def shapes(model: PreTrainedModel) -> list[LayerShape]:
    """What each layer has now, from the image on."""
    if model.config.model_type == CONVNEXT:
        widths = [layer.pwconv1.out_features for layer in convnext_layers(model)]
        return [LayerShape(heads=0, intermediate_size=width) for width in widths]
    return [
        LayerShape(
            heads=layer.attention.q_proj.out_features // layer.attention.head_dim,
            intermediate_size=layer.mlp.fc1.out_features,
        )
        for layer in model.vit.layers
    ]


def convnext_layers(model: PreTrainedModel) -> list[nn.Module]:
    return [layer for stage in model.convnext.encoder.stages for layer in stage.layers]


def _heads(attention: nn.Module) -> Units:
    size: int = attention.head_dim
    return Units(
        count=attention.q_proj.out_features // size,
        outputs=[
            Part(owner=attention, name=name, width=size, judged=name == "v_proj")
            for name in ("q_proj", "k_proj", "v_proj")
        ],
        inputs=Part(owner=attention, name="o_proj", width=size),
    )


def _neurons(owner: nn.Module, *, first: str, second: str) -> Units:
    return Units(
        count=getattr(owner, first).out_features,
        outputs=[Part(owner=owner, name=first)],
        inputs=Part(owner=owner, name=second),
        multiple=NEURON_MULTIPLE,
    )
