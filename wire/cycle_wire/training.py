"""The file /etc/cycleops/config.json of the worker, launcher and compression pods."""

from typing import Literal

from pydantic import Field

from cycle_wire.base import ContainerPath, WireModel
from cycle_wire.parts import Backend, Checkpointing, Evaluation, Fields, Task, Training, Transport, Variant


class JobIdentity(WireModel):
    """The object that a pod reports about."""

    kind: Literal["CycleJob", "CycleService"] = "CycleJob"
    namespace: str
    name: str
    uid: str


class World(WireModel):
    """The world that the spec asks for. Ranks are pinned to nothing; rank r runs on host r // slots_per_host."""

    hosts: list[str] = Field(min_length=1, description="Stable DNS names of the workers, by index.")
    slots_per_host: int = Field(ge=1)
    backend: Backend
    transport: Transport = Field(description="What carries the sums in fact: Gloo with torchrun.")
    threads_per_rank: int = Field(1, ge=1, description="Compute threads of one rank; from the HardwareClass.")

    @property
    def size(self) -> int:
        return len(self.hosts) * self.slots_per_host


class ReportTarget(WireModel):
    """Where a pod reports to. With url None nothing is reported (a run by hand)."""

    url: str | None = None
    ca_path: ContainerPath = "/etc/cycleops/ca.crt"
    token_path: ContainerPath = "/var/run/secrets/cycleops/token"


class TrainingConfig(WireModel):
    job: JobIdentity
    task: Task
    model_path: ContainerPath = Field(
        description="Folder with config.json, model.safetensors and, for texts, the tokenizer."
    )
    train_path: ContainerPath = Field(description="JSON lines.")
    evaluation_path: ContainerPath = Field(description="JSON lines.")
    fields: Fields
    output_path: ContainerPath = Field(
        description="The model goes to OUTPUT/sha256-<hex>/ (model.safetensors, config, tokenizer, labels.json), "
        "variants to OUTPUT/sha256-<hex>/variants/<name>/, checkpoints to OUTPUT/checkpoints/<job uid>/."
    )
    output_uri: str = Field(description="The same as a URI, pvc://claim/path, for status and manifests.")
    world: World
    training: Training
    evaluation: Evaluation
    checkpoint: Checkpointing
    variants: list[Variant]
    ssh_port: int = 2222
    rendezvous_port: int = Field(29400, description="Of the first worker, where ranks meet that no launcher starts.")
    launch_timeout_seconds: int = Field(300, ge=1, description="How long the workers may take to find each other.")
    report: ReportTarget = ReportTarget()
    model_digest: str | None = Field(None, description="Of the trained model; given to the compression pod.")
