"""Status of a CycleJob: what pods reported, and what became of it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from cycle_wire.parts import Precision
from cycleops.api.base import ApiModel, Text, list_map
from cycleops.api.conditions import Conditions

Metrics = Annotated[
    list["Metric"],
    Field(max_length=32, json_schema_extra=list_map("name")),
]


class Metric(ApiModel):
    name: str = Field(max_length=63, description="accuracy, f1Macro, tokenAccuracy, perplexity, ...")
    value: float = Field(description="Higher is better, but for perplexity.")
    rows: int = Field(ge=0, description="Evaluation rows behind the value.")


class WorkersStatus(ApiModel):
    """For the scale subresource."""

    ready: int = Field(0, ge=0, description="Worker pods that are ready.")
    selector: str = Field("", max_length=1024, description="Label selector of the worker pods.")


class WorldStatus(ApiModel):
    """What rank 0 found before the first step, from all ranks."""

    size: int = Field(ge=0, description="Ranks.")
    hosts: list[Annotated[str, Field(max_length=253)]] = Field(max_length=4096, description="Distinct host names.")
    ranks_per_host: list[int] = Field(default_factory=list, max_length=4096, description="In the order of hosts.")
    devices: list[Annotated[str, Field(max_length=128)]] = Field(
        default_factory=list, max_length=4096, description="Distinct devices of the ranks."
    )
    transport: str = Field("", max_length=63, description="How the ranks talked.")
    time: datetime | None = Field(None, description="When it was reported.")


class Progress(ApiModel):
    step: int = Field(ge=0, description="Optimizer steps done.")
    total_steps: int = Field(ge=0, description="Optimizer steps to do.")
    loss: float | None = Field(None, description="Of the last step; left out when it is not a number.")
    learning_rate: float | None = Field(None, description="Of the last step.")
    samples_per_second: float | None = Field(None, description="Over all ranks, since the last report.")
    pre_seconds: float | None = Field(None, description="Of one step: waiting for data.")
    compute_seconds: float | None = Field(None, description="Of one step: forward, backward, all-reduce, optimizer.")
    post_seconds: float | None = Field(None, description="Of one step: logging and checkpoint.")
    forward_seconds: float | None = Field(None, description="Of compute.")
    backward_seconds: float | None = Field(None, description="Of compute, with the all-reduce that runs beside it.")
    all_reduce_seconds: float | None = Field(None, description="Of compute: waiting for the gradients' sum.")
    time: datetime | None = Field(None, description="When it was reported.")
    estimated_completion_time: datetime | None = Field(
        None, description="When the last step is done, if steps go on taking as long as those of the last report."
    )


class GoodputState(StrEnum):
    QUEUED = "Queued"  # nothing runs: it waits for what it needs
    STARTING = "Starting"  # pods start and find each other
    TRAINING = "Training"
    RESTARTING = "Restarting"  # from a failure, or the end of a suspension, to the next attempt's world
    SUSPENDED = "Suspended"
    ENDED = "Ended"  # the training is over


class Attempt(ApiModel):
    """What the attempt that runs has reported."""

    first_step: int = Field(0, ge=0, description="Steps that were done before it: of its checkpoint.")
    last_step: int = Field(0, ge=0, description="Steps that are done.")
    productive_seconds: float = Field(0.0, ge=0, description="Pre and compute of its steps.")
    checkpointing_seconds: float = Field(0.0, ge=0, description="Post of its steps: logging and checkpoints.")


class Goodput(ApiModel):
    """Where the seconds went, from the creation of the job to the end of its training."""

    state: GoodputState = Field(description="Whose clock runs.")
    since: datetime = Field(description="Since when; the seconds below have the states that are over.")
    ratio: float | None = Field(None, ge=0, le=1, description="Goodput: productive seconds over all of them.")
    productive_seconds: float = Field(0.0, ge=0, description="Pre and compute of steps that count, as reported.")
    checkpointing_seconds: float = Field(0.0, ge=0, description="Logging and checkpoints, of attempts that are over.")
    lost_seconds: float = Field(0.0, ge=0, description="Of steps that had to be done again.")
    lost_steps: int = Field(0, ge=0, description="Steps that had to be done again.")
    queued_seconds: float = Field(0.0, ge=0, description="Before the first pods were made.")
    starting_seconds: float = Field(0.0, ge=0, description="From the first pods to the first world.")
    restarting_seconds: float = Field(0.0, ge=0, description="Between a failure and the next attempt's world.")
    suspended_seconds: float = Field(0.0, ge=0, description="By spec.suspend.")
    training_seconds: float = Field(
        0.0, ge=0, description="From a world to the end of its attempt: steps, checkpoints, reading and saving."
    )
    earlier_productive_seconds: float = Field(
        0.0, ge=0, description="Of attempts that are over, without what was lost."
    )
    last_step: int = Field(0, ge=0, description="The newest step that was reported.")
    step_seconds: float = Field(0.0, ge=0, description="Of one step of the attempt before.")
    attempt: Attempt | None = Field(None, description="The attempt that runs.")


class CheckpointStatus(ApiModel):
    step: int = Field(ge=0, description="Step it was saved at.")
    uri: Text = Field(description="Where it is.")
    digest: str = Field(max_length=71, description="Of its content.")
    time: datetime | None = Field(None, description="When it was saved.")


class TrainedModel(ApiModel):
    uri: Text = Field(description="OUTPUT/sha256-<hex>")
    digest: str = Field(max_length=71, description="sha256:<hex>")
    steps: int | None = Field(None, ge=0, description="Optimizer steps it took.")
    final_loss: float | None = Field(None, description="Training loss at the end.")
    train_rows: int | None = Field(None, ge=0, description="Distinct rows it was trained on.")
    labels: int | None = Field(None, ge=0, description="Classes; 0 for a task without.")
    precision: Precision | None = Field(
        None, description="The training computed in: spec.training.precision, but Float32 on a CPU without bfloat16."
    )
    from_random_weights: bool = Field(False, description="Training had no weights to start from and drew them.")


class BaselineStatus(ApiModel):
    """A simple model on the same training and evaluation rows."""

    name: str = Field(max_length=40, description="majority and bagOfWords; of language models unigram and bigram.")
    description: str = Field(max_length=200, description="What it does.")
    metrics: Metrics = Field(default_factory=list, description="What it reaches.")


class VariantStatus(ApiModel):
    name: str = Field(max_length=40, description="As in spec.variants.")
    uri: Text = Field(description="Where it is.")
    metrics: Metrics = Field(
        default_factory=list, description="Evaluated with the serving engine, on the first class of the profile."
    )
    size_bytes: int | None = Field(None, ge=0, description="Of its weights file.")
    parameters: int | None = Field(None, ge=0, description="Weights and biases that are left.")
    sparsity: float | None = Field(None, ge=0, le=1, description="Measured on the saved file.")
    weights_digest: str | None = Field(None, max_length=71, description="Of its weights file.")


class ProfileReference(ApiModel):
    variant: str = Field(max_length=40, description="As in spec.variants.")
    hardware: str = Field(max_length=40, description="HardwareClass it was measured on.")
    name: str = Field(max_length=253, description="CycleProfile that holds the measurement.")


class FailureStatus(ApiModel):
    """What a pod said when it gave up."""

    reason: str = Field(max_length=63, description="As in the conditions.")
    message: str = Field(max_length=2000, description="What it is, and what to do.")
    field: str | None = Field(None, max_length=253, description="Field of the spec to mend.")
    pod: str | None = Field(None, max_length=253, description="Who said so.")


class CycleJobStatus(ApiModel):
    observed_generation: int | None = Field(None, ge=0, description="The metadata.generation that status is about.")
    conditions: Conditions = Field(default_factory=list)
    start_time: datetime | None = Field(None, description="When the first pods were made.")
    completion_time: datetime | None = Field(None, description="When the job ended, well or not.")
    workers: WorkersStatus | None = Field(None, description="Worker pods.")
    world: WorldStatus | None = Field(None, description="The world that trained.")
    progress: Progress | None = Field(None, description="Of the training.")
    goodput: Goodput | None = Field(None, description="Where the seconds of the training went.")
    last_checkpoint: CheckpointStatus | None = Field(None, description="The newest.")
    model: TrainedModel | None = Field(None, description="The trained model.")
    baselines: list[BaselineStatus] = Field(
        default_factory=list,
        max_length=16,
        description="What a model must beat.",
        json_schema_extra=list_map("name"),
    )
    variants: list[VariantStatus] = Field(
        default_factory=list,
        max_length=64,
        description="Variants that were made.",
        json_schema_extra=list_map("name"),
    )
    profiles: list[ProfileReference] = Field(
        default_factory=list,
        max_length=1024,
        description="Measurements, one per variant and class.",
        json_schema_extra=list_map("variant", "hardware"),
    )
    restarts: int | None = Field(None, ge=0, description="How often the training was started anew.")
    earlier_failures: int = Field(
        0,
        ge=0,
        description="Failures before the training's Job that is there now: it was deleted because nothing moved.",
    )
    failure: FailureStatus | None = Field(None, description="Why the job failed, from the pod that gave up.")
