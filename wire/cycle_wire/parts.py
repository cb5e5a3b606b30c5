"""Parts of a CycleJob's spec that trainer and profiler read as they are.

Bounds stand here once: the CRD schema, the operator and the images all use these models. Enum values are CamelCase
as Kubernetes' API conventions ask.
"""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from cycle_wire.base import IntOrDecimal, Name, WireModel, decimal_bounds

FieldName = Annotated[str, Field(min_length=1, max_length=128)]
MetricName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z][A-Za-z0-9]*$")]


class Task(StrEnum):
    TEXT_CLASSIFICATION = "TextClassification"
    LANGUAGE_MODELING = "LanguageModeling"  # a causal language model: generates text
    IMAGE_CLASSIFICATION = "ImageClassification"
    TRANSLATION = "Translation"  # an encoder-decoder that says a text in another language
    RECOMMENDATION = "Recommendation"  # from some items of a set to others that belong with them


class Precision(StrEnum):
    FLOAT32 = "Float32"
    BFLOAT16 = "BFloat16"


class Backend(StrEnum):
    HOROVOD = "Horovod"
    TORCHRUN = "Torchrun"


class Transport(StrEnum):
    MPI = "MPI"
    GLOO = "Gloo"


class Criterion(StrEnum):
    MAGNITUDE = "Magnitude"


class Structure(StrEnum):
    STRUCTURED = "Structured"
    UNSTRUCTURED = "Unstructured"


class Scheme(StrEnum):
    SYMMETRIC = "Symmetric"
    ASYMMETRIC = "Asymmetric"


class Granularity(StrEnum):
    PER_TENSOR = "PerTensor"
    PER_CHANNEL = "PerChannel"
    PER_GROUP = "PerGroup"  # of groupSize weights of one output


class Activations(StrEnum):
    DYNAMIC = "Dynamic"
    NONE = "None"


class Pruning(WireModel):
    criterion: Criterion = Field(Criterion.MAGNITUDE, description="How a weight's importance is measured.")
    structure: Structure = Field(
        Structure.STRUCTURED,
        description="Structured removes heads and neurons; Unstructured masks single weights, which does not "
        "shorten dense kernels.",
    )
    sparsity: IntOrDecimal = Field(
        description="Share of the prunable units to remove, above 0 and below 1.",
        json_schema_extra=decimal_bounds(above="0", below="1"),
    )
    recovery_steps: int = Field(0, ge=0, le=1_000_000, description="Fine-tuning steps after pruning.")


class Quantization(WireModel):
    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "self.activations == 'None' || self.granularity != 'PerGroup'",
                    "message": "set activations: None; groups are for weights only",
                    "fieldPath": ".activations",
                },
                {
                    "rule": "!has(self.groupSize) || self.granularity == 'PerGroup'",
                    "message": "groupSize is for granularity: PerGroup",
                    "fieldPath": ".groupSize",
                },
            ]
        }
    )

    bits: Literal[4, 8] = Field(8, description="Bits of a stored weight.")
    scheme: Scheme = Field(Scheme.SYMMETRIC, description="Of the weights: with or without a zero point.")
    granularity: Granularity = Field(
        Granularity.PER_CHANNEL,
        description="What shares one scale: all weights, those of one output, or groupSize of those (PerGroup, for "
        "which activations must be None).",
    )
    group_size: Literal[32, 64, 128] | None = Field(None, description="Weights of a group, with PerGroup; default 64.")
    activations: Activations = Field(
        Activations.DYNAMIC, description="Dynamic: quantized per token at run time; None: weights only."
    )


class Variant(WireModel):
    name: Name = Field(description="Unique within the job; part of the CycleProfile's name.")
    precision: Precision = Field(Precision.FLOAT32, description="Type of the computation.")
    pruning: Pruning | None = Field(None, description="Remove weights before quantizing.")
    quantization: Quantization | None = Field(None, description="Store and compute in integers.")


class Fields(WireModel):
    """Names of the fields in each JSON line of the data files."""

    text: FieldName = Field("text", description="Field that holds the input text.")
    image: FieldName = Field(
        "image",
        description="Field that holds an image (ImageClassification): rows of whole numbers from 0 to 255, or one such "
        "list for each channel.",
    )
    label: FieldName = Field(
        "label", description="Field that holds the label (TextClassification, ImageClassification)."
    )
    translation: FieldName = Field(
        "translation", description="Field that holds the text in the other language (Translation)."
    )
    messages: FieldName = Field(
        "messages",
        description="Field that holds a chat, [{role, content}], in lines that have one instead of a text "
        "(LanguageModeling): the model learns what the assistant says in it.",
    )
    items: FieldName = Field(
        "items",
        description="Field that holds what somebody has (Recommendation): a list of items, texts or whole numbers, in "
        "any order.",
    )
    held_out: FieldName = Field(
        "heldOut",
        description="Field of the evaluation data that holds the items to be found (Recommendation), a list as well.",
    )


class Training(WireModel):
    maximum_steps: int | None = Field(
        None, ge=1, le=10_000_000, description="Optimizer steps; exactly one of this and epochs."
    )
    epochs: int | None = Field(None, ge=1, le=10_000, description="Passes over the training data.")
    global_batch_size: int = Field(64, ge=1, le=1_048_576, description="Samples per optimizer step, over all ranks.")
    micro_batch_size: int = Field(16, ge=1, le=65_536, description="Samples per forward pass of one rank.")
    precision: Precision = Field(
        Precision.FLOAT32,
        description="Type of the forward and backward pass. A CPU without bfloat16 arithmetic, which would only "
        "emulate it, computes in Float32; status.model.precision says so.",
    )
    learning_rate: IntOrDecimal = Field(
        Decimal("5e-5"),
        description='Peak learning rate, for example "5e-5".',
        json_schema_extra=decimal_bounds(above="0", at_most="1"),
    )
    warmup_ratio: IntOrDecimal = Field(
        Decimal("0.1"),
        description="Share of the steps in which the rate rises linearly.",
        json_schema_extra=decimal_bounds(at_least="0", at_most="1"),
    )
    weight_decay: IntOrDecimal = Field(
        Decimal("0.01"),
        description="AdamW's decoupled weight decay.",
        json_schema_extra=decimal_bounds(at_least="0", at_most="1"),
    )
    head_learning_rate_multiplier: IntOrDecimal = Field(
        Decimal("20"),
        description="The new head learns this many times faster than the pretrained body.",
        json_schema_extra=decimal_bounds(above="0", at_most="10000"),
    )
    maximum_sequence_length: int = Field(
        128,
        ge=8,
        le=8192,
        description="Longer inputs are truncated, in tokens; a long text of a language model is cut into several.",
    )
    seed: int = Field(0, ge=0, le=2_147_483_647, description="Seeds data order, initialisation and dropout.")


class Evaluation(WireModel):
    metrics: list[MetricName] = Field(
        default_factory=list,
        max_length=16,
        description="Metrics to compute; when empty, all of the task: accuracy and f1Macro (TextClassification, "
        "ImageClassification), tokenAccuracy and perplexity (LanguageModeling), chrf and bleu (Translation: "
        "sacreBLEU's, 0 to 1), recallAt10 and ndcgAt10 (Recommendation). Higher is better but for perplexity.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    maximum_rows: int | None = Field(None, ge=1, le=10_000_000, description="Evaluate on the first so many rows.")


class Checkpointing(WireModel):
    every_steps: int = Field(100, ge=1, le=10_000_000, description="Steps between two checkpoints.")
    keep: int = Field(2, ge=1, le=100, description="How many of the newest checkpoints stay.")
