"""CycleService: a latency budget and an accuracy floor, and what is chosen to meet them."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from cycle_wire.base import Digest, IntOrDecimal, Name, decimal_bounds
from cycle_wire.metrics import LOWER_IS_BETTER
from cycle_wire.serving import CachePolicy
from cycleops.api.base import (
    ApiModel,
    Column,
    ImageName,
    Kind,
    ObjectName,
    Quantity,
    Uri,
    list_set,
    rule,
    rules,
    short_name,
)
from cycleops.api.budget import Budget
from cycleops.api.cycleservice_front import Auth, Grpc, Tls
from cycleops.api.cycleservice_status import CycleServiceStatus
from cycleops.api.pods import PodTemplate
from cycleops.api.traffic import Traffic


class PlanningMode(StrEnum):
    AUTOMATIC = "Automatic"
    RECOMMEND = "Recommend"
    PINNED = "Pinned"


class BalancingAlgorithm(StrEnum):
    ROUND_ROBIN = "RoundRobin"
    LEAST_CONNECTIONS = "LeastConnections"
    CONSISTENT_HASH = "ConsistentHash"


class ModelReference(ApiModel):
    cycle_job: Name | None = Field(None, description="CycleJob of this namespace: its model and profiles.")
    uri: Uri | None = Field(None, description="Folder of a trained model, named by its digest; with digest.")
    digest: Digest | None = Field(None, description="sha256:<hex> of that model; its profiles are found by it.")


class Replicas(ApiModel):
    minimum: int = Field(1, ge=1, le=1000, description="Fewest server pods.")
    maximum: int = Field(10, ge=1, le=1000, description="Most server pods.")
    hold_seconds: int = Field(90, ge=0, le=86_400, description="Pods go when fewer would have done for so long.")


class Headroom(ApiModel):
    """What may be lost while the budget is still held. Of both, each alone."""

    replicas: int | None = Field(None, ge=1, le=100, description="Any so many server pods.")
    zones: int | None = Field(None, ge=2, le=100, description="One of so many zones that the pods are spread over.")


class MemoryCache(ApiModel):
    policy: CachePolicy = Field(CachePolicy.LRU, description="What goes when it is full.")
    size: Quantity = Field("64Mi", description="Memory of each pod's cache.")
    ttl_seconds: int = Field(300, ge=1, le=31_536_000, description="An answer is kept so long at most.")


class SecretKey(ApiModel):
    name: ObjectName = Field(description="Name of a Secret of this namespace.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field("url", description="Key in it.")


class SharedCache(ApiModel):
    """Redis or Valkey. When it is down, slow or full, requests go on without it."""

    managed: bool = Field(False, description="The operator runs one Valkey for this service; in memory only.")
    url_from: SecretKey | None = Field(None, description="Where redis://:PASSWORD@HOST:PORT/DB, or rediss://, stands.")
    size: Quantity = Field("256Mi", description="Memory for answers, when it is managed.")
    ttl_seconds: int = Field(3600, ge=1, le=31_536_000, description="An answer is shared so long at most.")


class Cache(ApiModel):
    l1: MemoryCache | None = Field(None, description="In the memory of each pod.")
    l2: SharedCache | None = Field(None, description="Shared by the pods; asked when a pod's memory doesn't know.")


class PinnedPlan(ApiModel):
    variant: Name = Field(description="Variant to serve.")
    hardware: Name = Field(description="HardwareClass to serve on; one of spec.hardware.")
    batch_size: int = Field(
        ge=1, le=1024, description="Largest batch; of a model that generates text, most sequences at once."
    )
    delay_milliseconds: IntOrDecimal = Field(
        Decimal("0"),
        description="How long a batch waits for more requests.",
        json_schema_extra=decimal_bounds(at_least="0", at_most="600000"),
    )
    replicas: int = Field(ge=1, le=1000, description="Server pods.")


class Planning(ApiModel):
    mode: PlanningMode = Field(
        PlanningMode.AUTOMATIC,
        description="Automatic: plan and deploy. Recommend: plan, and keep what is deployed. "
        "Pinned: deploy what pinned says, and judge it.",
    )
    pinned: PinnedPlan | None = Field(None, description="With mode Pinned.")


class Remeasure(ApiModel):
    """A measurement that the operator starts by itself because profiles are stale; see status.remeasurement."""

    enabled: bool = Field(True, description="False: stale profiles are only said, in the condition ProfileCurrent.")
    after_seconds: int = Field(
        600, ge=0, le=604_800, description="Once ProfileCurrent has been False for so long, without a break."
    )
    minimum_interval_seconds: int = Field(
        86_400,
        ge=60,
        le=2_592_000,
        description="From one measurement's start to the next; doubled for each that did not make the profiles hold.",
    )
    deadline_seconds: int = Field(
        3600, ge=60, le=86_400, description="For one HardwareClass, waiting for room on a node included."
    )


class LoadBalancing(ApiModel):
    algorithm: BalancingAlgorithm = Field(
        BalancingAlgorithm.LEAST_CONNECTIONS, description="How a pod is chosen; ConsistentHash goes by the body."
    )


class ServiceImages(ApiModel):
    """Images of this service; they win over those of the HardwareClass and of the chart."""

    server: ImageName | None = Field(None, description="Image of the server and of the cache sidecar.")
    balancer: ImageName | None = Field(None, description="Image of the balancer.")
    cache: ImageName | None = Field(None, description="Image of the managed shared cache.")


_RULES = (
    rule(
        "has(self.model.cycleJob) != (has(self.model.uri) || has(self.model.digest)) "
        "&& has(self.model.uri) == has(self.model.digest)",
        "model must have exactly one of cycleJob, or uri and digest together",
        ".model",
    ),
    rule(
        "!has(self.budget.accuracy) || has(self.budget.accuracy.minimum) != has(self.budget.accuracy.maximumDrop)",
        "budget.accuracy must have exactly one of minimum and maximumDrop",
        ".budget.accuracy",
    ),
    rule(
        "!has(self.budget.accuracy) || has(self.budget.accuracy.maximumDrop) == has(self.budget.accuracy.baseline)",
        "budget.accuracy.baseline must be given with maximumDrop, and only with it",
        ".budget.accuracy.baseline",
    ),
    rule(
        f"!has(self.budget.accuracy) || !(self.budget.accuracy.metric in {sorted(LOWER_IS_BETTER)})",
        "budget.accuracy.metric must be better when higher; of a language model it is tokenAccuracy",
        ".budget.accuracy.metric",
    ),
    rule(
        "!has(self.cache) || !has(self.cache.l2) || has(self.cache.l1) "
        "&& self.cache.l2.managed != has(self.cache.l2.urlFrom)",
        "cache.l2 must have exactly one of managed: true and urlFrom, and stand beside cache.l1",
        ".cache.l2",
    ),
    rule(
        "!has(self.traffic.inputTokens) || self.traffic.inputTokens.p50 <= self.traffic.inputTokens.p99",
        "traffic.inputTokens.p50 must not be above p99",
        ".traffic.inputTokens.p50",
    ),
    rule(
        "!has(self.traffic.outputTokens) || self.traffic.outputTokens.p50 <= self.traffic.outputTokens.p99",
        "traffic.outputTokens.p50 must not be above p99",
        ".traffic.outputTokens.p50",
    ),
    rule(
        "!has(self.budget.generation) || has(self.budget.generation.firstTokenMilliseconds) "
        "|| has(self.budget.generation.perTokenMilliseconds)",
        "budget.generation must have at least one of firstTokenMilliseconds and perTokenMilliseconds",
        ".budget.generation",
    ),
    rule(
        "self.replicas.minimum <= self.replicas.maximum",
        "replicas.minimum must not be above replicas.maximum",
        ".replicas.minimum",
    ),
    rule(
        "!has(self.grpc) || !(self.grpc.port in [80, 443])",
        "grpc.port must not be 80 or 443, which are HTTP's",
        ".grpc.port",
    ),
    rule(
        "(self.planning.mode == 'Pinned') == has(self.planning.pinned)",
        "planning.pinned must be given with mode Pinned, and only with it",
        ".planning.pinned",
    ),
    rule(
        "!has(self.planning.pinned) || self.planning.pinned.hardware in self.hardware",
        "planning.pinned.hardware must be one of spec.hardware",
        ".planning.pinned.hardware",
    ),
    rule(
        "!has(self.planning.pinned) || (self.planning.pinned.replicas >= self.replicas.minimum "
        "&& self.planning.pinned.replicas <= self.replicas.maximum)",
        "planning.pinned.replicas must be from replicas.minimum to replicas.maximum",
        ".planning.pinned.replicas",
    ),
)


class CycleServiceSpec(ApiModel):
    model_config = ConfigDict(json_schema_extra=rules(*_RULES))

    model: ModelReference = Field(description="Exactly one of cycleJob, or uri and digest.")
    budget: Budget = Field(description="What must be met.")
    traffic: Traffic = Field(description="What must be served.")
    hardware: list[Name] = Field(
        min_length=1,
        max_length=16,
        description="HardwareClasses that may be used.",
        json_schema_extra=list_set(),
    )
    replicas: Replicas = Field(default_factory=Replicas, description="Bounds of the number of server pods.")
    headroom: Headroom | None = Field(None, description="Plan for a loss; without it for all pods alive.")
    cache: Cache | None = Field(None, description="Answers exact repeats; without it nothing is cached.")
    planning: Planning = Field(default_factory=Planning, description="Who decides.")
    remeasure: Remeasure = Field(default_factory=Remeasure, description="What becomes of stale profiles.")
    load_balancing: LoadBalancing = Field(default_factory=LoadBalancing, description="How requests are spread.")
    grpc: Grpc | None = Field(None, description="Serve gRPC too; without it only HTTP.")
    tls: Tls | None = Field(None, description="Serve HTTPS on port 443 instead of HTTP on port 80.")
    auth: Auth | None = Field(None, description="Ask for an API key; without it everybody in the cluster gets in.")
    pod_template: PodTemplate | None = Field(None, description="Added to the service's pods.")
    images: ServiceImages | None = Field(None, description="Images of this service.")


class CycleService(Kind):
    """Serves a model within a latency budget and above an accuracy floor, at the least cost."""

    model_config = ConfigDict(json_schema_extra=short_name())

    PLURAL: ClassVar[str] = "cycleservices"
    SHORT_NAME: ClassVar[str] = "cysvc"
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Feasible", '.status.conditions[?(@.type=="Feasible")].status'),
        Column("Variant", ".status.plan.variant"),
        Column("Hardware", ".status.plan.hardware"),
        Column("Replicas", ".status.readyReplicas", "integer", "Server pods that are ready."),
        Column("URL", ".status.url"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Asked", ".status.adaptation.replicas", "integer", "Server pods that adaptation asks for.", wide=True),
        Column("Scaling", ".status.adaptation.reason", wide=True),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', wide=True),
    )

    spec: CycleServiceSpec
    status: CycleServiceStatus = Field(default_factory=CycleServiceStatus)
