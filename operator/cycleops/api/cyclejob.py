"""CycleJob: train on many nodes, make variants, measure each where it will run."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, JsonValue

from cycle_wire.base import Name
from cycle_wire.parts import Backend, Checkpointing, Evaluation, Fields, Task, Training, Transport, Variant
from cycleops.api.base import (
    ApiModel,
    Column,
    ImageName,
    Kind,
    Scale,
    Uri,
    list_atomic,
    list_map,
    list_set,
    rule,
    rules,
    short_name,
)
from cycleops.api.cyclejob_status import CycleJobStatus
from cycleops.api.pods import PodTemplate


class CleanPodPolicy(StrEnum):
    RUNNING = "Running"
    ALL = "All"
    NONE = "None"


class ModelSource(ApiModel):
    uri: Uri = Field(description="Folder with config.json, model.safetensors and the tokenizer.")


class Data(ApiModel):
    train: Uri = Field(description="JSON lines to train on.")
    evaluation: Uri = Field(description="JSON lines to evaluate on; every label must be in train too.")
    fields: Fields = Field(default_factory=Fields, description="Names of the fields in each line.")


class Output(ApiModel):
    uri: Uri = Field(description="Folder; the model is written below it, under its digest.")


class Workers(ApiModel):
    backend: Backend = Field(
        Backend.HOROVOD,
        description="Who averages the gradients: Horovod, or PyTorch's own torch.distributed, started by torchrun.",
    )
    transport: Transport = Field(
        Transport.MPI,
        description="How Horovod's ranks talk: MPI (a launcher starts them through ssh) or Gloo (each worker starts "
        "its own). Ranks of Torchrun talk over Gloo, whatever is said here.",
    )
    replicas: int = Field(1, ge=1, le=256, description="Worker pods.")
    hardware: Name = Field(description="HardwareClass of the workers.")

    @property
    def carrier(self) -> Transport:
        """What carries the sums over ranks in fact."""
        return Transport.GLOO if self.backend is Backend.TORCHRUN else self.transport

    @property
    def has_launcher(self) -> bool:
        """Whether a launcher starts the ranks; else each worker starts its own, and they meet at the first worker."""
        return self.carrier is Transport.MPI


class Profiling(ApiModel):
    hardware: Annotated[list[Name], Field(min_length=1, max_length=16)] | None = Field(
        None,
        description="HardwareClasses to measure on; when left out, that of the workers.",
        json_schema_extra=list_set(),
    )
    batch_sizes: list[Annotated[int, Field(ge=1, le=1024)]] = Field(
        default_factory=lambda: [1, 2, 4, 8],
        min_length=1,
        max_length=16,
        description="Batch sizes to measure.",
        json_schema_extra=list_set(),
    )
    sequence_lengths: list[Annotated[int, Field(ge=1, le=8192)]] = Field(
        default_factory=lambda: [16, 32, 64],
        min_length=1,
        max_length=16,
        description="Input lengths to measure, in tokens. An image is always one.",
        json_schema_extra=list_set(),
    )


class ExitAction(StrEnum):
    RETRY = "Retry"
    FAIL = "Fail"
    IGNORE = "Ignore"


class ExitCodeRule(ApiModel):
    codes: list[Annotated[int, Field(ge=1, le=255)]] = Field(
        min_length=1,
        max_length=255,
        description="Exit codes of the training; of a rank killed by a signal 128 and its number.",
        json_schema_extra=list_set(),
    )
    action: ExitAction = Field(
        description="Fail: the job fails at once. Ignore: try again, and don't count it. Retry: try again and count it "
        "against backoffLimit, as without a rule."
    )


class RunPolicy(ApiModel):
    backoff_limit: int = Field(2, ge=0, le=100, description="Restarts of the training before the job fails.")
    exit_codes: list[ExitCodeRule] = Field(
        default_factory=list,
        max_length=16,
        description="What an exit code of the training means; the first rule that names it counts. 3 always fails the "
        "job: the trainer says with it that its input is wrong, and trying again can't help.",
        json_schema_extra=list_atomic(),
    )
    active_deadline_seconds: int | None = Field(
        None, ge=1, le=31_536_000, description="The job fails when it is not done after so many seconds."
    )
    progress_deadline_seconds: int = Field(
        1800,
        ge=1,
        le=31_536_000,
        description="A training whose rank 0 reports nothing for so many seconds hangs: its pods are deleted and it "
        "starts anew from the last checkpoint, as after any failure. Rank 0 reports after each step, at most one in "
        "5 s: allow for the longest step, and for reading the data before the first.",
    )
    ttl_seconds_after_finished: int | None = Field(
        None,
        ge=0,
        le=31_536_000,
        description="The job is deleted so many seconds after it ended; its model and profiles stay.",
    )
    checkpoint: Checkpointing = Field(default_factory=Checkpointing, description="When to save what a restart needs.")
    clean_pod_policy: CleanPodPolicy = Field(
        CleanPodPolicy.RUNNING, description="Pods to delete when the job ends: those that run, all, or none."
    )


class JobImages(ApiModel):
    """Images of this job; they win over those of the HardwareClass and of the chart."""

    trainer: ImageName | None = Field(None, description="Image that trains and compresses.")
    server: ImageName | None = Field(None, description="Image that profiles.")


# activeDeadlineSeconds, progressDeadlineSeconds, ttlSecondsAfterFinished and suspend stay free.
_FIXED = (
    *("task", "model", "data", "output", "workers", "training", "evaluation", "variants", "profile"),
    *("podTemplate", "images", "runPolicy.backoffLimit", "runPolicy.exitCodes", "runPolicy.checkpoint"),
    "runPolicy.cleanPodPolicy",
)


def _fixed(path: str) -> dict[str, JsonValue]:
    return rule(
        f"has(self.{path}) == has(oldSelf.{path}) && (!has(self.{path}) || self.{path} == oldSelf.{path})",
        f"{path} can't be changed once the job is there",
        f".{path}",
    )


class CycleJobSpec(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.training.maximumSteps) != has(self.training.epochs)",
                "exactly one of training.maximumSteps and training.epochs must be given",
                ".training.maximumSteps",
            ),
            rule(
                "self.training.globalBatchSize % self.training.microBatchSize == 0",
                "training.globalBatchSize must be a multiple of training.microBatchSize",
                ".training.globalBatchSize",
            ),
            *(_fixed(path) for path in _FIXED),
        )
    )

    task: Task = Field(description="What the model does.")
    model: ModelSource = Field(description="Pretrained model to start from.")
    data: Data = Field(description="What to train and evaluate on.")
    output: Output = Field(description="Where the model, its variants and checkpoints go.")
    workers: Workers = Field(description="Who trains.")
    training: Training = Field(description="How to train.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="How to judge the result.")
    variants: list[Variant] = Field(
        default_factory=lambda: [Variant(name="fp32")],
        min_length=1,
        max_length=16,
        description="Smaller and faster models to make of the trained one; each is evaluated and measured.",
        json_schema_extra=list_map("name"),
    )
    profile: Profiling = Field(default_factory=Profiling, description="What to measure.")
    run_policy: RunPolicy = Field(default_factory=RunPolicy, description="Retries, deadlines, cleaning up.")
    suspend: bool = Field(False, description="True: no pods; a running training stops and resumes from a checkpoint.")
    pod_template: PodTemplate | None = Field(None, description="Added to the job's pods.")
    images: JobImages | None = Field(None, description="Images of this job.")


class CycleJob(Kind):
    """Trains a model on many nodes, makes variants of it, and measures each where it will run."""

    model_config = ConfigDict(json_schema_extra=short_name())

    PLURAL: ClassVar[str] = "cyclejobs"
    SHORT_NAME: ClassVar[str] = "cyj"
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Succeeded", '.status.conditions[?(@.type=="Succeeded")].status'),
        Column("Reason", '.status.conditions[?(@.type=="Succeeded")].reason'),
        Column("Workers", ".status.workers.ready", "integer", "Worker pods that are ready."),
        Column("Step", ".status.progress.step", "integer"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Message", '.status.conditions[?(@.type=="Succeeded")].message', wide=True),
    )
    SCALE: ClassVar[Scale | None] = Scale(
        replicas=".spec.workers.replicas", status_replicas=".status.workers.ready", selector=".status.workers.selector"
    )

    spec: CycleJobSpec
    status: CycleJobStatus = Field(default_factory=CycleJobStatus)
