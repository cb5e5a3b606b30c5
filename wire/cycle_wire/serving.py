"""Configuration files of server pods and profiling pods."""

from enum import StrEnum

from pydantic import Field

from cycle_wire.base import ContainerPath, Digest, WireModel
from cycle_wire.parts import Evaluation, Fields, Variant
from cycle_wire.training import JobIdentity, ReportTarget


class CachePolicy(StrEnum):
    """What goes when a cache is full."""

    LRU = "LRU"  # the least recently used
    FIFO = "FIFO"  # the oldest
    LFU = "LFU"  # the least often used
    S3FIFO = "S3FIFO"  # what is asked once, before what is asked again (Yang et al., SOSP'23)
    W_TINY_LFU = "WTinyLFU"  # what is asked less often than what would come for it (Einziger et al., ToS'17)


class DeviceKind(StrEnum):
    """What a variant's arithmetic runs on."""

    CPU = "cpu"
    CUDA = "cuda"
    TPU = "tpu"


class ServerConfig(WireModel):
    """/etc/cycleops/server.json of the server container."""

    model_name: str = Field(description="The CycleService's name; the model name in Open Inference Protocol URLs.")
    variant_path: ContainerPath
    model_digest: Digest
    variant: str
    maximum_batch_size: int = Field(1, ge=1, le=4096, description="Of a language model: answers under way at once.")
    maximum_delay_milliseconds: float = Field(0.0, ge=0, description="How long a batch waits for more requests.")
    budget_milliseconds: float = Field(1000.0, gt=0, description="A request that can't be answered within it is shed.")
    target_milliseconds: float = Field(1000.0, gt=0, description="The latency budget: histograms are fine around it.")
    queue_limit: int = Field(256, ge=1)
    tenant_texts_per_second: float | None = Field(
        None, gt=0, description="Each tenant may send so many texts to this pod on average; None: any number."
    )
    tenant_burst_texts: int = Field(64, ge=1, description="And so many at once.")
    workers: int = Field(1, ge=1, le=256, description="Processes that compute; 1: a thread of the server itself.")
    threads: int = Field(1, ge=1, description="Of each worker.")
    device: DeviceKind = Field(DeviceKind.CPU, description="The class's accelerator, or none.")
    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int = Field(0, ge=0, le=65535, description="Open Inference Protocol over gRPC; 0 turns it off.")
    key_value_bytes: int | None = Field(
        None, ge=1, description="Of a language model's keys and values, at most; None: 256 MiB."
    )
    warmup_sequence_lengths: list[int] = Field(default_factory=lambda: [16, 64])
    drain_seconds: int = Field(20, ge=0)


class SharedCacheConfig(WireModel):
    """A Redis or Valkey that the pods of a service share."""

    url_path: ContainerPath = Field(
        description="File with redis://:PASSWORD@HOST:PORT/DB; without it nothing is shared."
    )
    scope: str = Field(description="Whose answers these are; pods share answers of the same scope only.")
    ttl_seconds: float = Field(3600.0, gt=0)


class SidecarConfig(WireModel):
    """/etc/cycleops/sidecar.json of the cache container."""

    upstream: str = "http://127.0.0.1:8080"
    port: int = 8081
    grpc: bool = Field(False, description="Open Inference Protocol over gRPC too, which a balancer brings by HTTP/1.1.")
    model_digest: Digest
    variant: str
    policy: CachePolicy = CachePolicy.LRU
    size_bytes: int = Field(64 * 1024 * 1024, ge=0, description="0 turns the cache off.")
    ttl_seconds: float = Field(300.0, gt=0)
    shared: SharedCacheConfig | None = Field(None, description="Asked when the memory doesn't know.")
    cacheable: bool = Field(True, description="False for variants whose answers depend on batch neighbours.")
    target_milliseconds: float = Field(1000.0, gt=0, description="The latency budget: histograms are fine around it.")
    drain_seconds: int = Field(20, ge=0)


class ProfileVariant(WireModel):
    variant: Variant
    path: ContainerPath


class ProfilingConfig(WireModel):
    """/etc/cycleops/config.json of a profiling pod: evaluate and measure each variant on this class."""

    job: JobIdentity
    model_digest: Digest
    variants: list[ProfileVariant] = Field(min_length=1)
    evaluation_path: ContainerPath
    fields: Fields
    evaluation: Evaluation = Field(description="Its metrics are never empty.")
    batch_sizes: list[int] = Field(min_length=1)
    sequence_lengths: list[int] = Field(min_length=1, description="In tokens; an image is 1, whatever stands here.")
    hardware_class: str
    hardware_class_hash: str
    image: str
    workers: int = Field(1, ge=1, le=256, description="Of the server on this class.")
    threads: int = Field(1, ge=1, description="Of each worker.")
    device: DeviceKind = Field(DeviceKind.CPU, description="The class's accelerator, or none.")
    report: ReportTarget = ReportTarget()
