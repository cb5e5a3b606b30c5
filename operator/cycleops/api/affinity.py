"""Kubernetes' affinity, bounded; with its own field names and meanings."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from cycleops.api.base import ApiModel, DnsLabel, LabelKey, LabelValue, list_atomic

Values = Annotated[list[LabelValue], Field(max_length=64, json_schema_extra=list_atomic())]
Weight = Annotated[int, Field(ge=1, le=100)]


class NodeOperator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


class LabelOperator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class NodeRequirement(ApiModel):
    key: LabelKey = Field(description="Label or field of the node.")
    operator: NodeOperator = Field(description="How it relates to values.")
    values: Values | None = Field(None, description="Values to compare with.")


class NodeTerm(ApiModel):
    match_expressions: Annotated[list[NodeRequirement], Field(max_length=16)] | None = Field(
        None, description="Requirements on the node's labels.", json_schema_extra=list_atomic()
    )
    match_fields: Annotated[list[NodeRequirement], Field(max_length=16)] | None = Field(
        None, description="Requirements on the node's fields.", json_schema_extra=list_atomic()
    )


class RequiredNodes(ApiModel):
    node_selector_terms: list[NodeTerm] = Field(
        min_length=1, max_length=16, description="One of them must hold.", json_schema_extra=list_atomic()
    )


class PreferredNodes(ApiModel):
    weight: Weight = Field(description="1 to 100; the higher, the more wanted.")
    preference: NodeTerm = Field(description="What is preferred.")


class NodeAffinity(ApiModel):
    required_during_scheduling_ignored_during_execution: RequiredNodes | None = Field(
        None, description="Nodes that qualify."
    )
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredNodes], Field(max_length=16)] | None
    ) = Field(None, description="Nodes that are preferred.", json_schema_extra=list_atomic())


class LabelRequirement(ApiModel):
    key: LabelKey = Field(description="Label.")
    operator: LabelOperator = Field(description="How it relates to values.")
    values: Values | None = Field(None, description="Values to compare with.")


class LabelSelector(ApiModel):
    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] | None = Field(
        None, description="Labels that must have these values."
    )
    match_expressions: Annotated[list[LabelRequirement], Field(max_length=16)] | None = Field(
        None, description="Requirements on labels.", json_schema_extra=list_atomic()
    )


class PodTerm(ApiModel):
    topology_key: LabelKey = Field(description="Node label that says what 'the same place' is.")
    label_selector: LabelSelector | None = Field(None, description="Pods meant.")
    namespace_selector: LabelSelector | None = Field(None, description="Namespaces meant; without it, this one.")
    namespaces: Annotated[list[DnsLabel], Field(max_length=16)] | None = Field(
        None, description="Namespaces meant, by name.", json_schema_extra=list_atomic()
    )


class PreferredPods(ApiModel):
    weight: Weight = Field(description="1 to 100; the higher, the more wanted.")
    pod_affinity_term: PodTerm = Field(description="What is preferred.")


class PodAffinity(ApiModel):
    required_during_scheduling_ignored_during_execution: Annotated[list[PodTerm], Field(max_length=16)] | None = Field(
        None, description="Must hold.", json_schema_extra=list_atomic()
    )
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredPods], Field(max_length=16)] | None
    ) = Field(None, description="Is preferred.", json_schema_extra=list_atomic())


class Affinity(ApiModel):
    node_affinity: NodeAffinity | None = Field(None, description="Towards nodes.")
    pod_affinity: PodAffinity | None = Field(None, description="Towards pods.")
    pod_anti_affinity: PodAffinity | None = Field(None, description="Away from pods.")
