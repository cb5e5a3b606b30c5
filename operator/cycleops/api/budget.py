"""What a CycleService must meet: latency, caps by term, caps of generated text, accuracy."""

from decimal import Decimal

from pydantic import Field

from cycle_wire.base import IntOrDecimal, Name, decimal_bounds
from cycle_wire.parts import MetricName
from cycleops.api.base import ApiModel


class LatencyBudget(ApiModel):
    percentile: IntOrDecimal = Field(
        Decimal("99"),
        description="Share of the requests, in percent, that must meet the budget.",
        json_schema_extra=decimal_bounds(at_least="50", at_most="99.99"),
    )
    milliseconds: IntOrDecimal = Field(
        description="From the balancer's door in to its door out.",
        json_schema_extra=decimal_bounds(above="0", at_most="600000"),
    )


class StageBudget(ApiModel):
    """Caps by term, at the same percentile."""

    pre_milliseconds: IntOrDecimal | None = Field(
        None, description="Of tokenizing.", json_schema_extra=decimal_bounds(above="0", at_most="600000")
    )
    post_milliseconds: IntOrDecimal | None = Field(
        None, description="Of making the answer.", json_schema_extra=decimal_bounds(above="0", at_most="600000")
    )


class GenerationBudget(ApiModel):
    """Caps of a model that generates text, at the same percentile; at least one of them."""

    first_token_milliseconds: IntOrDecimal | None = Field(
        None,
        description="Time to first token: from the balancer's door in to the first token out.",
        json_schema_extra=decimal_bounds(above="0", at_most="600000"),
    )
    per_token_milliseconds: IntOrDecimal | None = Field(
        None,
        description="Time per output token: between two tokens of an answer; the percentile is over all of these gaps.",
        json_schema_extra=decimal_bounds(above="0", at_most="600000"),
    )


class AccuracyFloor(ApiModel):
    metric: MetricName = Field("accuracy", description="Metric of the job's evaluation, better when higher.")
    minimum: IntOrDecimal | None = Field(
        None, description="Smallest value allowed.", json_schema_extra=decimal_bounds(at_least="0", at_most="1")
    )
    maximum_drop: IntOrDecimal | None = Field(
        None,
        description="Largest loss allowed against the baseline variant.",
        json_schema_extra=decimal_bounds(at_least="0", at_most="1"),
    )
    baseline: Name | None = Field(None, description="Variant that maximumDrop is counted from.")


class Budget(ApiModel):
    latency: LatencyBudget = Field(description="What must be met.")
    stages: StageBudget | None = Field(None, description="Caps by term.")
    generation: GenerationBudget | None = Field(
        None, description="Of a model that generates text, caps of its tokens; latency is of the whole answer."
    )
    accuracy: AccuracyFloor | None = Field(None, description="Floor; without it every variant may serve.")
