"""Status of a CycleService: the plan with its reasons, and what was measured. Times in milliseconds."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from cycleops.api.base import ApiModel, Text, list_set
from cycleops.api.conditions import Conditions


class ServedModel(ApiModel):
    """Pinned: a job's TTL must not take a live service's evidence away."""

    uri: Text = Field(description="Folder of the model.")
    digest: str = Field(max_length=71, description="sha256:<hex>")


class Predicted(ApiModel):
    """At the plan's load. Terms are medians of one request; they don't add up to a percentile of the whole."""

    p50_ms: float = Field(ge=0, description="Median of T.")
    p99_ms: float = Field(ge=0, description="99th percentile of T.")
    pre_ms: float = Field(ge=0, description="Tokenizing.")
    compute_ms: float = Field(ge=0, description="The model.")
    post_ms: float = Field(ge=0, description="Making the answer.")
    queue_ms: float = Field(ge=0, description="Waiting for a batch.")
    overhead_ms: float = Field(0.0, ge=0, description="Balancer, sidecar and transport.")
    latency_ms: float | None = Field(None, ge=0, description="T at the budget's percentile.")
    low_ms: float | None = Field(None, ge=0, description="Low end of the prediction's band at the percentile.")
    high_ms: float | None = Field(None, ge=0, description="High end of the prediction's band at the percentile.")
    utilization: float | None = Field(None, ge=0, description="Busy share of a server pod.")
    first_token_ms: float | None = Field(
        None, ge=0, description="Of generated text: time to first token, at the budget's percentile."
    )
    per_token_ms: float | None = Field(
        None, ge=0, description="Of generated text: time between two tokens, at the budget's percentile."
    )


class Plan(ApiModel):
    variant: str = Field(max_length=40, description="What is served.")
    hardware: str = Field(max_length=40, description="HardwareClass it is served on.")
    batch_size: int = Field(ge=1, description="Largest batch; of a model that generates text, most sequences at once.")
    delay_milliseconds: float = Field(0.0, ge=0, description="How long a batch waits for more requests.")
    replicas: int = Field(ge=0, description="Server pods.")
    cost_per_hour: float | None = Field(None, ge=0, description="Of all server pods.")
    accuracy: float | None = Field(None, description="The budget's metric, measured on this hardware.")
    predicted: Predicted | None = Field(None, description="What to expect.")
    profile: str | None = Field(None, max_length=253, description="CycleProfile that the prediction is made from.")
    reasons: list[Text] = Field(default_factory=list, max_length=32, description="Why this plan, with numbers.")
    time: datetime | None = Field(None, description="When it was made.")


class Rejected(ApiModel):
    """Why a candidate lost."""

    variant: str = Field(max_length=40)
    hardware: str = Field(max_length=40)
    batch_size: int | None = Field(None, ge=1, description="Left out when the variant lost at every batch size.")
    reason: str = Field(max_length=63, description="Stable PascalCase word.")
    message: Text = Field(description="With numbers.")


class NearestFeasible(ApiModel):
    """A change of one budget that would make a plan possible, and its price."""

    dimension: str = Field(
        max_length=63, description="What to change: latency, firstToken, perToken, accuracy, rate or replicas."
    )
    value: float = Field(description="What it would have to be.")
    cost_per_hour: float | None = Field(None, ge=0, description="Of the plan that is possible then.")
    message: Text = Field(description="In a sentence.")


class FrontierPoint(ApiModel):
    """A plan that no other beats in cost, latency and accuracy at once."""

    variant: str = Field(max_length=40)
    hardware: str = Field(max_length=40)
    batch_size: int = Field(ge=1)
    replicas: int = Field(ge=0)
    cost_per_hour: float = Field(ge=0)
    p99_ms: float = Field(ge=0)
    accuracy: float | None = Field(None)


class Measured(ApiModel):
    """Of real requests. Terms are medians of misses: hits have none."""

    p50_ms: float | None = Field(None, ge=0, description="Median of T.")
    p99_ms: float | None = Field(None, ge=0, description="99th percentile of T.")
    latency_ms: float | None = Field(None, ge=0, description="T at the budget's percentile.")
    pre_ms: float | None = Field(None, ge=0)
    compute_ms: float | None = Field(None, ge=0)
    post_ms: float | None = Field(None, ge=0)
    queue_ms: float | None = Field(None, ge=0)
    overhead_ms: float | None = Field(None, ge=0, description="Of T, what no term of the model has.")
    first_token_ms: float | None = Field(
        None, ge=0, description="Of generated text: time to first token, at the budget's percentile."
    )
    per_token_ms: float | None = Field(
        None, ge=0, description="Of generated text: time between two tokens, at the budget's percentile."
    )
    requests: int = Field(0, ge=0, description="How many the numbers are from.")
    requests_per_second: float | None = Field(None, ge=0, description="Arrivals at the balancer.")
    errors: int = Field(0, ge=0, description="Answers of 5xx.")
    cache_hit_ratio: float | None = Field(None, ge=0, le=1, description="Share answered by the cache.")
    window_seconds: float | None = Field(None, ge=0, description="How long was measured.")
    time: datetime | None = Field(None, description="When it was measured.")


class Adaptation(ApiModel):
    """How many server pods there should be now, by what was measured, and why.

    Written when that changes, and at most every ten minutes while requests come.
    """

    replicas: int = Field(ge=1, description="Server pods asked for; with planning.mode Recommend, that would be.")
    fewest: int = Field(ge=1, description="Fewer are not asked for: of traffic.basis, the plan and spec.replicas.")
    most: int = Field(ge=1, description="More are not allowed, by spec.replicas and the HardwareClass.")
    reason: str = Field(max_length=63, description="Stable PascalCase word.")
    message: Text = Field(description="Why, with numbers.")
    requests_per_second: float = Field(ge=0, description="To be computed: forecast until a new pod could be ready.")
    slowness: float = Field(ge=0, description="Measured compute over the profile's.")
    slowness_low: float = Field(ge=0, description="Low end of its 95 % interval.")
    slowness_high: float = Field(ge=0, description="High end of its 95 % interval.")
    counted_hit_ratio: float = Field(0.0, ge=0, le=1, description="Share of hits that capacity counts on.")
    stale: list[Text] = Field(default_factory=list, max_length=8, description="Why the profile should be made anew.")
    time: datetime = Field(description="When this was written.")
    memory: str = Field("", max_length=8192, description="What a restarted operator goes on from; its own business.")


class RemeasuredProfile(ApiModel):
    variant: str = Field(max_length=40)
    hardware: str = Field(max_length=40, description="HardwareClass it was measured on.")
    name: str = Field(max_length=253, description="The new CycleProfile.")


class Remeasurement(ApiModel):
    """The latest measurement that the operator started because profiles were stale."""

    run: int = Field(ge=1, description="How many there were, this one included.")
    in_a_row: int = Field(1, ge=1, description="Of these, since profiles last held.")
    reasons: list[Text] = Field(max_length=8, description="What was not as profiled.")
    batch_sizes: list[int] = Field(max_length=32, description="That are measured.")
    sequence_lengths: list[int] = Field(max_length=32, description="In tokens: those of before, and what arrives now.")
    pending: list[Annotated[str, Field(max_length=40)]] = Field(
        default_factory=list,
        max_length=16,
        description="HardwareClasses that are not done, measured one after the other; what serves comes first.",
    )
    profiles: list[RemeasuredProfile] = Field(default_factory=list, max_length=256, description="That came of it.")
    failed: list[Text] = Field(default_factory=list, max_length=16, description="Classes that gave none, and why.")
    held: bool = Field(False, description="ProfileCurrent was True after it.")
    start_time: datetime = Field(description="When it began.")
    class_start_time: datetime = Field(description="When the class that is measured began.")
    completion_time: datetime | None = Field(None, description="When the last class was done.")


class CycleServiceStatus(ApiModel):
    observed_generation: int | None = Field(None, ge=0, description="The metadata.generation that status is about.")
    conditions: Conditions = Field(default_factory=list)
    url: str | None = Field(None, max_length=512, description="Where to send requests, inside the cluster.")
    model: ServedModel | None = Field(None, description="What is served.")
    profiles: list[Annotated[str, Field(max_length=253)]] = Field(
        default_factory=list,
        max_length=1024,
        description="CycleProfiles the plan was chosen from.",
        json_schema_extra=list_set(),
    )
    plan: Plan | None = Field(None, description="What was decided.")
    rejected: list[Rejected] = Field(default_factory=list, max_length=256, description="Why each other candidate lost.")
    nearest_feasible: list[NearestFeasible] = Field(
        default_factory=list, max_length=16, description="When no plan meets the budget: what would."
    )
    frontier: list[FrontierPoint] = Field(
        default_factory=list, max_length=64, description="Best choices of cost, latency and accuracy."
    )
    measured: Measured | None = Field(None, description="What it really is.")
    adaptation: Adaptation | None = Field(None, description="Server pods by what is measured; none before that.")
    remeasurement: Remeasurement | None = Field(None, description="Of stale profiles; none before the first.")
    replicas: int | None = Field(None, ge=0, description="Server pods there are.")
    ready_replicas: int | None = Field(None, ge=0, description="Server pods that are ready.")
    baseline_accuracy: float | None = Field(None, description="The baseline variant's value of the budget's metric.")
