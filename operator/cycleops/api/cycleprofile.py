"""CycleProfile: one variant measured on one hardware class. Evidence: it never changes and outlives its job."""

from typing import ClassVar

from pydantic import ConfigDict, Field

from cycle_wire.base import Name
from cycle_wire.profile import Profile
from cycleops.api.base import Column, Kind, rule, rules


class CycleProfileSpec(Profile):
    model_config = ConfigDict(
        extra="ignore", json_schema_extra=rules(rule("self == oldSelf", "a CycleProfile can't be changed"))
    )

    job: Name | None = Field(None, description="CycleJob that measured; it may be gone.")


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
