"""Causal language models of the Llama and GPT-2 families: load, cut, and say what is in them.

All layers are cut alike, so that the smaller model's ``config.json`` says all its shapes and it is plain for everyone.
"""

from collections.abc import Iterator
from pathlib import Path

from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from cycle_trainer.families.folder import config_of, load_whole
from cycle_trainer.families.units import NEURON_MULTIPLE, Linear, Part, Units, linears_of
from cycle_wire.variant import LayerShape

LLAMA, GPT2 = "llama", "gpt2"
SUPPORTED_FAMILIES = (GPT2, LLAMA)


def read_config(folder: Path) -> PretrainedConfig:
    """Raises OSError or ValueError for a bad config.json and UnsupportedModelError for an unknown family."""
    return config_of(folder, families=SUPPORTED_FAMILIES)


def random_model(config: PretrainedConfig) -> PreTrainedModel:
    """Weights drawn from torch's generator, as the family draws them."""
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model.float()


def load(folder: Path) -> PreTrainedModel:
    """In float32 and evaluation mode. Raises as ``read_config`` and ``load_whole`` do."""
    return load_whole(AutoModelForCausalLM, folder, read_config(folder))


def linears(model: PreTrainedModel) -> Iterator[tuple[str, Linear]]:
    """Of the layers; embeddings and output layer stay floats."""
    return linears_of(_layers(model), prefix="model.layers" if model.config.model_type == LLAMA else "transformer.h")


def prune(model: PreTrainedModel, *, sparsity: float) -> None:
    """Cut this share of neurons and heads out of every layer, and say so in the model's config.

    Heads that share keys and values go together. GPT-2's config can't say that there are fewer heads of the same size:
    it keeps them all.
    """
    config = model.config
    if config.model_type == GPT2:
        for layer in _layers(model):
            units = _gpt2_neurons(layer.mlp)
            units.prune(sparsity)
            config.n_inner = units.kept(sparsity)
        return
    size: int = config.head_dim
    sharing = config.num_attention_heads // config.num_key_value_heads
    for layer in _layers(model):
        heads, neurons = _llama_heads(layer.self_attn, size=size, sharing=sharing), _llama_neurons(layer.mlp)
        heads.prune(sparsity)
        neurons.prune(sparsity)
        config.num_key_value_heads = heads.kept(sparsity)
        config.num_attention_heads = config.num_key_value_heads * sharing
        config.intermediate_size = neurons.kept(sparsity)


def shapes(model: PreTrainedModel) -> list[LayerShape]:
    config = model.config
    neurons = config.intermediate_size if config.model_type == LLAMA else config.n_inner or 4 * config.hidden_size
    shape = LayerShape(heads=config.num_attention_heads, intermediate_size=neurons)
    return [shape] * config.num_hidden_layers


def _layers(model: PreTrainedModel) -> nn.ModuleList:
    layers: nn.ModuleList = model.model.layers if model.config.model_type == LLAMA else model.transformer.h
    return layers


def _llama_heads(attention: nn.Module, *, size: int, sharing: int) -> Units:
    """A unit is a head of keys and values with the heads that ask it."""
    return Units(
        count=attention.k_proj.out_features // size,
        outputs=[
            Part(owner=attention, name="q_proj", width=size * sharing, judged=False),
            Part(owner=attention, name="k_proj", width=size, judged=False),
            Part(owner=attention, name="v_proj", width=size),
        ],
        inputs=Part(owner=attention, name="o_proj", width=size * sharing),
    )


def _llama_neurons(mlp: nn.Module) -> Units:
    return Units(
        count=mlp.gate_proj.out_features,
        outputs=[Part(owner=mlp, name="gate_proj"), Part(owner=mlp, name="up_proj")],
        inputs=Part(owner=mlp, name="down_proj"),
        multiple=NEURON_MULTIPLE,
    )


def _gpt2_neurons(mlp: nn.Module) -> Units:
    return Units(
        count=mlp.c_fc.nf,
        outputs=[Part(owner=mlp, name="c_fc")],
        inputs=Part(owner=mlp, name="c_proj"),
        multiple=NEURON_MULTIPLE,
    )
