"""CycleProfile: one variant measured on one hardware class. Evidence: it never changes and outlives its job."""

from typing import ClassVar

from pydantic import ConfigDict, Field

from cycle_wire.base import Name
from cycle_wire.parts import Evaluation, Fields, Variant
from cycle_wire.profile import Profile
from cycleops.api.base import ApiModel, Column, Kind, Uri, rule, rules


class ProfileSource(ApiModel):
    """What the measurement was made from: enough to make it again when its job is gone."""

    variant: Variant = Field(description="As the job's spec describes it.")
    data: Uri = Field(description="JSON lines that were evaluated on.")
    fields: Fields = Field(default_factory=Fields, description="Names of the fields in each line.")
    evaluation: Evaluation = Field(description="Metrics, never empty, and how many rows.")


class CycleProfileSpec(Profile):
    model_config = ConfigDict(
        extra="ignore", json_schema_extra=rules(rule("self == oldSelf", "a CycleProfile can't be changed"))
    )

    job: Name | None = Field(None, description="CycleJob that made the variant and measured it first; it may be gone.")
    service: Name | None = Field(None, description="CycleService that had it measured anew; it may be gone.")
    source: ProfileSource | None = Field(None, description="What it takes to measure again; none in old profiles.")


class CycleProfile(Kind):
    """One variant measured on one hardware class."""

    PLURAL: ClassVar[str] = "cycleprofiles"
    SHORT_NAME: ClassVar[str] = "cyp"
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Variant", ".spec.variant"),
        Column("Hardware", ".spec.hardwareClass"),
        Column("Job", ".spec.job"),
        Column("Size", ".spec.sizeBytes", "integer", "Bytes of the weights file."),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Model", ".spec.modelDigest", wide=True),
    )

    spec: CycleProfileSpec
