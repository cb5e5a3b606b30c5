"""What pods say to the operator: POST {report.url} with a Report, answered 200 only when it is stored.

Senders number their reports, rising within a pod, and retry on anything but 200 and 4xx (503: this replica does not
lead). A report that was stored before is answered 200 again. 4xx is final: 401/403 wrong token or pod, 422 malformed.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from cycle_wire.base import Digest, WireModel
from cycle_wire.parts import Precision
from cycle_wire.profile import MetricValue, Profile
from cycle_wire.training import JobIdentity
from cycle_wire.variant import VariantManifest

AUDIENCE = "cycleops-report"
EXIT_BAD_INPUT = 3  # a pod's exit code when trying again can't help


class WorldReport(WireModel):
    """Rank 0 before the first step, from an all-gather over every rank and an all-reduce that proves the transport."""

    kind: Literal["World"] = "World"
    size: int
    hosts: list[str] = Field(max_length=4096, description="Distinct host names, sorted.")
    ranks_per_host: list[int] = Field(max_length=4096)
    devices: list[str] = Field(max_length=4096, description="Device of each rank, by rank.")
    transport: str
    all_reduce_sum: float = Field(description="Sum over ranks of (rank + 1): size * (size + 1) / 2.")


class ProgressReport(WireModel):
    """Rank 0, at most one in 5 s, and at the last step. Terms of one step are means since the last report.

    An attempt is the time from one world report to the next: what it did is counted from its own start, so that a
    report that is lost or overtaken by a newer one loses nothing.
    """

    kind: Literal["Progress"] = "Progress"
    step: int
    total_steps: int
    loss: float
    learning_rate: float
    samples_per_second: float
    pre_seconds: float = Field(description="Waiting for data.")
    compute_seconds: float = Field(description="Forward, backward, all-reduce, optimizer.")
    post_seconds: float = Field(description="Logging and checkpoint.")
    forward_seconds: float = Field(description="Of compute.")
    backward_seconds: float = Field(description="Of compute; what of the all-reduce runs beside it is in it.")
    all_reduce_seconds: float = Field(description="Of compute: waiting for the gradients' sum after backward.")
    first_step: int = Field(ge=0, description="Steps that were done before this attempt: of the checkpoint, or 0.")
    attempt_productive_seconds: float = Field(ge=0, description="Of this attempt: pre and compute of its steps.")
    attempt_checkpointing_seconds: float = Field(ge=0, description="Of this attempt: post of its steps.")


class CheckpointReport(WireModel):
    kind: Literal["Checkpoint"] = "Checkpoint"
    step: int
    uri: str
    digest: Digest
    saved_at: datetime


class TrainedReport(WireModel):
    kind: Literal["Trained"] = "Trained"
    uri: str = Field(description="OUTPUT_URI/sha256-<hex>")
    digest: Digest
    steps: int
    final_loss: float
    train_rows: int = Field(description="Distinct training rows seen.")
    labels: int = Field(description="Classes; 0 for a task without.")
    precision: Precision | None = Field(None, description="Of the forward and backward passes, as computed.")
    from_random_weights: bool = Field(False, description="There were no weights to start from.")


class Baseline(WireModel):
    """A simple model on the same training and evaluation rows."""

    name: str = Field(max_length=40)
    description: str = Field(max_length=200)
    metrics: list[MetricValue] = Field(max_length=32)


class BaselineReport(WireModel):
    kind: Literal["Baselines"] = "Baselines"
    baselines: list[Baseline] = Field(max_length=16)


class VariantReport(WireModel):
    kind: Literal["Variants"] = "Variants"
    manifests: list[VariantManifest] = Field(max_length=64)


class ProfileReport(WireModel):
    kind: Literal["Profile"] = "Profile"
    profile: Profile


class FailureReport(WireModel):
    """Why a pod gives up: a PascalCase reason, and the spec field to mend, such as ``spec.data.fields.label``."""

    kind: Literal["Failure"] = "Failure"
    reason: str = Field(max_length=63, pattern=r"^[A-Z][A-Za-z0-9]*$")
    message: str = Field(max_length=2000)
    field: str | None = Field(None, max_length=253)


Message = Annotated[
    WorldReport
    | ProgressReport
    | CheckpointReport
    | TrainedReport
    | BaselineReport
    | VariantReport
    | ProfileReport
    | FailureReport,
    Field(discriminator="kind"),
]


class Report(WireModel):
    job: JobIdentity
    pod: str = Field(max_length=253)
    sequence: int = Field(ge=1)
    message: Message
