"""Conditions: the only truth of ``status`` that code may branch on."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from cycleops.api.base import ApiModel, list_map

MAXIMUM_MESSAGE = 4096


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(ApiModel):
    """The same shape as Kubernetes' metav1.Condition."""

    type: str = Field(max_length=63, pattern=r"^[A-Z][A-Za-z0-9]*$", description="What the condition is about.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: str = Field(
        min_length=1, max_length=63, pattern=r"^[A-Z][A-Za-z0-9]*$", description="Stable PascalCase word for programs."
    )
    message: str = Field("", max_length=MAXIMUM_MESSAGE, description="For people: what it is, and what to do.")
    observed_generation: int = Field(0, ge=0, description="The metadata.generation the condition was made from.")
    last_transition_time: datetime = Field(description="When status last changed.")


Conditions = Annotated[
    list[Condition],
    Field(
        max_length=32,
        description="What is true of the object now.",
        json_schema_extra=list_map("type"),
    ),
]


class JobCondition(StrEnum):
    """Conditions of a CycleJob. Succeeded is the one to wait for: Unknown until the job ends."""

    SUSPENDED = "Suspended"
    ADMITTED = "Admitted"
    WORLD_VERIFIED = "WorldVerified"
    TRAINED = "Trained"
    COMPRESSED = "Compressed"
    PROFILED = "Profiled"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class ServiceCondition(StrEnum):
    """Conditions of a CycleService. Ready is the one to wait for."""

    MODEL_READY = "ModelReady"
    FEASIBLE = "Feasible"
    PLAN_CURRENT = "PlanCurrent"
    READY = "Ready"
    BUDGET_MET = "BudgetMet"
    PROFILE_CURRENT = "ProfileCurrent"
    REMEASURING = "Remeasuring"
    PROGRESSING = "Progressing"
    STALLED = "Stalled"


def find_condition(conditions: Iterable[Condition], type: str) -> Condition | None:
    return next((c for c in conditions if c.type == type), None)


def is_true(conditions: Iterable[Condition], type: str) -> bool:
    found = find_condition(conditions, type)
    return found is not None and found.status is ConditionStatus.TRUE


def set_condition(
    conditions: Iterable[Condition],
    *,
    type: str,
    status: bool | None | ConditionStatus,
    reason: str,
    message: str,
    generation: int,
    now: datetime,
) -> list[Condition]:
    """The conditions with one added or changed, in their old order; a new one comes last.

    ``status`` None is Unknown. ``lastTransitionTime`` changes only when the status does. A message that is too long
    for the API is cut.
    """
    if not isinstance(status, ConditionStatus):
        status = {True: ConditionStatus.TRUE, False: ConditionStatus.FALSE, None: ConditionStatus.UNKNOWN}[status]
    before = list(conditions)
    old = find_condition(before, type)
    kept = old is not None and old.status is status
    new = Condition(
        type=str(type),
        status=status,
        reason=str(reason),
        message=message if len(message) <= MAXIMUM_MESSAGE else message[: MAXIMUM_MESSAGE - 3] + "...",
        observed_generation=generation,
        # metav1.Time has no fractions: a stored and a computed condition must compare equal.
        last_transition_time=old.last_transition_time if old is not None and kept else now.replace(microsecond=0),
    )
    return [new if c.type == type else c for c in before] if old is not None else [*before, new]
