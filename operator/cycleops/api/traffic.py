"""What a CycleService must serve: rate, lengths, and classes of traffic with budgets of their own."""

from enum import StrEnum

from pydantic import ConfigDict, Field

from cycle_wire.base import IntOrDecimal, Name, decimal_bounds
from cycleops.api.base import ApiModel, list_map, rule, rules
from cycleops.api.budget import LatencyBudget


class TrafficBasis(StrEnum):
    DECLARED = "Declared"
    MEASURED = "Measured"
    MAXIMUM = "Maximum"


class InputTokens(ApiModel):
    p50: int = Field(ge=1, le=131_072, description="Half of the inputs are no longer.")
    p99: int = Field(ge=1, le=131_072, description="99 of 100 inputs are no longer.")


class OutputTokens(ApiModel):
    p50: int = Field(ge=1, le=131_072, description="Half of the answers are no longer.")
    p99: int = Field(ge=1, le=131_072, description="99 of 100 answers are no longer.")


class TrafficClass(ApiModel):
    """Requests of one kind. Its budget is held at its own percentile of its own requests."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.inputTokens) || self.inputTokens.p50 <= self.inputTokens.p99",
                "inputTokens.p50 must not be above p99",
                ".inputTokens.p50",
            )
        )
    )

    name: Name = Field(description="Of the class.")
    requests_per_second: IntOrDecimal = Field(
        description="Only the share of all classes counts: the rate is that of traffic, declared or measured.",
        json_schema_extra=decimal_bounds(above="0", at_most="1000000"),
    )
    input_tokens: InputTokens | None = Field(None, description="Of its inputs; those of traffic when left out.")
    latency: LatencyBudget | None = Field(None, description="Its budget; that of the service when left out.")


class TenantLimit(ApiModel):
    """Of each tenant, which is what a request's header X-Cycle-Tenant says; requests without it are one tenant."""

    texts_per_second: IntOrDecimal = Field(
        description="Each server pod computes so many texts per second of a tenant on average; more get 429 with "
        "Retry-After. What the cache answers doesn't count.",
        json_schema_extra=decimal_bounds(above="0", at_most="1000000"),
    )
    burst_texts: int = Field(64, ge=1, le=1_000_000, description="And so many at once.")


class Traffic(ApiModel):
    requests_per_second: IntOrDecimal = Field(
        description="Expected rate.", json_schema_extra=decimal_bounds(above="0", at_most="1000000")
    )
    basis: TrafficBasis = Field(
        TrafficBasis.MAXIMUM, description="Plan for the declared rate, the measured one, or the larger of both."
    )
    input_tokens: InputTokens | None = Field(
        None, description="Length of the inputs; when left out, the longest that was profiled."
    )
    output_tokens: OutputTokens | None = Field(
        None,
        description="Of a model that generates text, length of the answers; when left out, the longest profiled.",
    )
    tenant_limit: TenantLimit | None = Field(None, description="Without it a tenant may send any number of texts.")
    classes: list[TrafficClass] = Field(
        default_factory=list,
        max_length=8,
        description="Kinds of requests with lengths and budgets of their own; the same pods serve them in turn.",
        json_schema_extra=list_map("name"),
    )
