"""Translators of the Marian family (Junczys-Dowmunt et al. 2018): load, cut, and say what is in them.

All layers of the encoder are cut alike, and all of the decoder, so that the smaller model's ``config.json`` says all
its shapes and it is plain for everyone. The config can't say that there are fewer heads of the same size: all stay.
"""

from collections.abc import Iterator
from pathlib import Path

from torch import nn
from transformers import AutoModelForSeq2SeqLM, PretrainedConfig, PreTrainedModel

from cycle_server.engine.model import UnsupportedModelError
from cycle_trainer.families.folder import config_of, load_whole
from cycle_trainer.families.units import NEURON_MULTIPLE, Linear, Part, Units, linears_of
from cycle_wire.variant import LayerShape

MARIAN = "marian"


def read_config(folder: Path) -> PretrainedConfig:
    """Raises OSError or ValueError for a bad config.json and UnsupportedModelError for what isn't a known family's."""
    config = config_of(folder, families=(MARIAN,))
    if not (config.share_encoder_decoder_embeddings and config.tie_word_embeddings):
        raise UnsupportedModelError(f"{folder}/config.json: encoder and decoder must share their embeddings")
    for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id"):
        token = getattr(config, name)
        if not isinstance(token, int) or not 0 <= token < config.vocab_size:
            message = f"{folder}/config.json: {name} is {token}, of {config.vocab_size} tokens in vocab_size"
            raise UnsupportedModelError(message)
    return config


def random_model(config: PretrainedConfig) -> PreTrainedModel:
    """Weights drawn from torch's generator, as the family draws them."""
    model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(config)
    return model.float()


def load(folder: Path) -> PreTrainedModel:
    """In float32 and evaluation mode. Raises as ``read_config`` and ``load_whole`` do."""
    return load_whole(AutoModelForSeq2SeqLM, folder, read_config(folder))


def linears(model: PreTrainedModel) -> Iterator[tuple[str, Linear]]:
    """Of the layers; embeddings and output layer stay floats."""
    yield from linears_of(model.model.encoder.layers, prefix="model.encoder.layers")
    yield from linears_of(model.model.decoder.layers, prefix="model.decoder.layers")


def prune(model: PreTrainedModel, *, sparsity: float) -> None:
    """Cut this share of neurons out of every layer, and say so in the model's config."""
    for part in ("encoder", "decoder"):
        for layer in getattr(model.model, part).layers:
            neurons = _neurons(layer)
            neurons.prune(sparsity)
            setattr(model.config, f"{part}_ffn_dim", neurons.kept(sparsity))


def shapes(model: PreTrainedModel) -> list[LayerShape]:
    """Of the encoder's layers, then of the decoder's."""
    config = model.config
    encoder = LayerShape(heads=config.encoder_attention_heads, intermediate_size=config.encoder_ffn_dim)
    decoder = LayerShape(heads=config.decoder_attention_heads, intermediate_size=config.decoder_ffn_dim)
    return [encoder] * config.encoder_layers + [decoder] * config.decoder_layers


def _neurons(layer: nn.Module) -> Units:
    return Units(
        count=layer.fc1.out_features,
        outputs=[Part(owner=layer, name="fc1")],
        inputs=Part(owner=layer, name="fc2"),
        multiple=NEURON_MULTIPLE,
    )
