"""manifest.json beside a variant's weights: how it was made. The weights are plain safetensors.

For a quantized layer NAME the file holds ``NAME.weight`` as int8 (out, in), ``NAME.weight_scale`` float32 (out,) or
(1,), and, when asymmetric, ``NAME.weight_zero_point`` int32 of the same shape; weight = (q - zero_point) * scale. With
granularity PerGroup both are (out, groups): the inputs are cut into groups of groupSize, the last may be shorter. Of 4
bits, ``NAME.weight`` is uint8 (out, in / 2, rounded up): q + 8, two in a byte, the even input's in the lower half.
A structurally pruned model is a plain smaller model: ``config.json`` and ``layers`` say its shapes.

A causal language model (task LanguageModeling) is what transformers' AutoModelForCausalLM reads: tensors have that
class's names, a tied output layer is left out, ``config.json`` alone says all shapes (every layer was cut alike;
``layers`` repeats them), and the folder has the tokenizer's files with its chat template and generation_config.json,
if there is one. A quantized layer's integers are (out, in) also in GPT-2, whose float weights are (in, out); a bias
that it doesn't have isn't there. ``labels`` is empty.

An image classifier (task ImageClassification) has the names of transformers' AutoModelForImageClassification. Its
``config.json`` says the size of an image, ``preprocessor_config.json``, if it is there, how pixels become the model's
values. There is no tokenizer: an image counts as one token.

A translator (task Translation) has the names of transformers' AutoModelForSeq2SeqLM; embeddings that encoder, decoder
and output layer share are there once. Its ``config.json`` says all shapes and the tokens that begin, end and fill up a
translation; ``layers`` has the encoder's, then the decoder's. ``labels`` is empty.

A recommender (task Recommendation) has a text classifier's names. Its "text" is a set of items: token 0, then a token
for each item, 1 more than its place in ``items.json``, a list of names. Its classes are the same items in the same
order; ``labels`` is empty, for there may be many. There is no tokenizer.
"""

from pydantic import Field

from cycle_wire.base import Digest, WireModel
from cycle_wire.parts import Task, Variant


class LayerShape(WireModel):
    """Shapes of one layer that pruning may have changed."""

    heads: int = Field(ge=0, description="0 in a layer without attention.")
    intermediate_size: int = Field(ge=1)


class VariantManifest(WireModel):
    schema_version: int = 1
    variant: Variant
    task: Task
    model_digest: Digest = Field(description="Of the trained model the variant was made from.")
    weights_digest: Digest = Field(description="Of this variant's model.safetensors.")
    size_bytes: int = Field(ge=0, description="Of this variant's model.safetensors.")
    parameters: int = Field(ge=0, description="Weights and biases that are left.")
    sparsity: float = Field(ge=0, le=1, description="Measured on the saved file: removed or zero prunable weights.")
    layers: list[LayerShape] = Field(default_factory=list, description="Empty when no layer was changed.")
    quantized_layers: list[str] = Field(default_factory=list, description="Module names stored as integers.")
    recovery_steps: int = 0
    labels: list[str] = Field(default_factory=list, description="Class names by index.")
    maximum_sequence_length: int = 128
