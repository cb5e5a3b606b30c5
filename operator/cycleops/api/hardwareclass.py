"""HardwareClass: a kind of machine, as data. GPU, TPU and edge nodes need no code of their own."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from cycle_wire.base import IntOrDecimal, decimal_bounds
from cycleops.api.base import (
    ApiModel,
    Column,
    ImageName,
    Kind,
    LabelKey,
    ObjectName,
    Quantity,
    list_atomic,
    rule,
    rules,
    short_name,
)
from cycleops.api.pods import NodeSelector, Toleration

Resources = Annotated[dict[LabelKey, Quantity], Field(max_length=16)]


class AcceleratorKind(StrEnum):
    GPU = "GPU"
    TPU = "TPU"


class Accelerator(ApiModel):
    kind: AcceleratorKind = Field(description="What it is.")
    resource: LabelKey = Field(description="Extended resource that a pod asks for, such as nvidia.com/gpu.")
    count: int = Field(1, ge=1, le=64, description="How many a pod gets; also the ranks of one training worker.")


class ResourceRequirements(ApiModel):
    """Requests and limits apart: a CPU limit is a quota per 100 ms and stalls latency, so a class may have none."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("'cpu' in self.requests", "requests must have cpu: threads and placement follow it", ".requests"),
            rule("'memory' in self.requests", "requests must have memory", ".requests"),
            rule(
                "!has(self.limits) || self.requests.all(k, !(k in self.limits) || "
                "quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)",
                "a limit must not be below the request of the same name",
                ".limits",
            ),
        )
    )

    requests: Resources = Field(description="What the scheduler keeps free for a pod.")
    limits: Resources | None = Field(None, description="What a pod may use at most.")


class ClassImages(ApiModel):
    """Images for this hardware; those of a CycleJob or CycleService win, those of the chart lose."""

    trainer: ImageName | None = Field(None, description="Image that trains and compresses.")
    server: ImageName | None = Field(None, description="Image that profiles and serves.")


class HardwareClassSpec(ApiModel):
    resources: ResourceRequirements = Field(description="Of one pod (the model's container).")
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Compute threads of one pod, of a server of each of its workers; when left out, the CPU request, "
        "for a server divided by its workers, at least 1.",
    )
    server_workers: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Processes that compute in one server pod, behind one queue, on one copy of the weights. Left out: "
        "1. More pay where a pod's memory, not its cores, is what limits; else take smaller pods.",
    )
    cost_per_hour: IntOrDecimal = Field(
        description="Price of one pod for one hour, in any currency that all classes share.",
        json_schema_extra=decimal_bounds(at_least="0"),
    )
    maximum_replicas: int | None = Field(
        None, ge=1, le=10_000, description="Most pods of one CycleService on this class."
    )
    accelerator: Accelerator | None = Field(None, description="Left out: none.")
    node_selector: NodeSelector | None = Field(None, description="Labels of the nodes that are of this class.")
    tolerations: list[Toleration] | None = Field(
        None,
        max_length=32,
        description="Taints of such nodes.",
        json_schema_extra=list_atomic(),
    )
    runtime_class_name: ObjectName | None = Field(None, description="RuntimeClass of the pods.")
    images: ClassImages | None = Field(None, description="Images for this hardware.")


class HardwareClass(Kind):
    """A kind of machine that jobs train on and services run on. Cluster-scoped."""

    model_config = ConfigDict(json_schema_extra=short_name())

    PLURAL: ClassVar[str] = "hardwareclasses"
    SHORT_NAME: ClassVar[str] = "hwc"
    NAMESPACED: ClassVar[bool] = False
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("CPU", ".spec.resources.requests.cpu"),
        Column("Memory", ".spec.resources.requests.memory"),
        Column("Accelerator", ".spec.accelerator.resource"),
        Column("Cost", ".spec.costPerHour", description="Price of one pod for one hour."),
        Column("Maximum", ".spec.maximumReplicas", "integer", wide=True),
        Column("Age", ".metadata.creationTimestamp", "date"),
    )

    spec: HardwareClassSpec
