"""BERT's layer layout: heads and neurons of each layer; the embeddings and the head stay as they are."""

from collections.abc import Iterator

from cycle_server.engine.model import EncoderClassifier, encoder_layers
from cycle_trainer.families.units import NEURON_MULTIPLE, Linear, Part, Units, linears_of


def linears(model: EncoderClassifier) -> Iterator[tuple[str, Linear]]:
    return linears_of(model.encoder.encoder.layer, prefix="encoder.encoder.layer")


def prune(model: EncoderClassifier, *, sparsity: float) -> None:
    """Cut this share of heads and neurons out of every layer."""
    for layer in encoder_layers(model):
        attention = layer.attention.self
        size: int = attention.attention_head_size
        heads = Units(
            count=attention.query.out_features // size,
            outputs=[
                Part(owner=attention, name=name, width=size, judged=name == "value")
                for name in ("query", "key", "value")
            ],
            inputs=Part(owner=layer.attention.output, name="dense", width=size),
        )
        neurons = Units(
            count=layer.intermediate.dense.out_features,
            outputs=[Part(owner=layer.intermediate, name="dense")],
            inputs=Part(owner=layer.output, name="dense"),
            multiple=NEURON_MULTIPLE,
        )
        heads.prune(sparsity)
        neurons.prune(sparsity)
        attention.num_attention_heads = heads.kept(sparsity)
        attention.all_head_size = attention.num_attention_heads * size
