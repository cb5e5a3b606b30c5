"""Curated overrides of the pods the operator makes; not a whole PodTemplateSpec.

Field names and meanings are Kubernetes' own, so ``to_dict()`` of each goes into a pod spec as it is.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from cycleops.api.affinity import Affinity
from cycleops.api.base import ApiModel, LabelKey, LabelValue, ObjectName, list_atomic, list_map, rule, rules
from cycleops.api.volumes import Volume, VolumeMount

Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=32)]
NodeSelector = Annotated[dict[LabelKey, LabelValue], Field(max_length=32)]


class TolerationOperator(StrEnum):
    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.value) || !has(self.operator) || self.operator != 'Exists'",
                "value must be left out when operator is Exists",
                ".value",
            ),
            rule(
                "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
                "operator must be Exists when key is left out",
                ".operator",
            ),
        )
    )

    key: LabelKey | None = Field(None, description="Taint to tolerate; without it, all.")
    operator: TolerationOperator | None = Field(None, description="Exists or Equal (when left out).")
    value: LabelValue | None = Field(None, description="Value of the taint, with Equal.")
    effect: TaintEffect | None = Field(None, description="Effect to tolerate; without it, all.")
    toleration_seconds: int | None = Field(None, ge=0, description="How long NoExecute is tolerated.")


class KeyReference(ApiModel):
    name: ObjectName = Field(description="Name of the Secret or ConfigMap, in this namespace.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Key in it.")
    optional: bool | None = Field(None, description="Leave the variable out when it is not there.")


class FieldReference(ApiModel):
    field_path: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="Field of the pod, such as metadata.name."
    )


class EnvSource(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)].filter(x, x).size() == 1",
                "exactly one of secretKeyRef, configMapKeyRef and fieldRef must be given",
            )
        )
    )

    secret_key_ref: KeyReference | None = Field(None, description="Key of a Secret.")
    config_map_key_ref: KeyReference | None = Field(None, description="Key of a ConfigMap.")
    field_ref: FieldReference | None = Field(None, description="Field of the pod.")


class EnvVar(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!(has(self.value) && has(self.valueFrom))",
                "at most one of value and valueFrom may be given",
                ".valueFrom",
            )
        )
    )

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description="Name of the variable."
    )
    value: Annotated[str, Field(max_length=4096)] | None = Field(None, description="The value itself.")
    value_from: EnvSource | None = Field(None, description="Where the value comes from.")


class LocalReference(ApiModel):
    name: ObjectName = Field(description="Name in this namespace.")


class PodTemplate(ApiModel):
    """Added to every pod the operator makes for this object."""

    labels: Labels | None = Field(None, description="More labels; those of the operator win.")
    annotations: Annotated[dict[LabelKey, Annotated[str, Field(max_length=4096)]], Field(max_length=32)] | None = Field(
        None, description="More annotations."
    )
    service_account_name: ObjectName | None = Field(
        None, description="Service account of the pods; its token is not mounted."
    )
    image_pull_secrets: list[LocalReference] | None = Field(
        None, max_length=16, description="Secrets to pull images with.", json_schema_extra=list_map("name")
    )
    priority_class_name: ObjectName | None = Field(None, description="PriorityClass of the pods.")
    affinity: Affinity | None = Field(None, description="Scheduling constraints, as in Kubernetes' own pods.")
    tolerations: list[Toleration] | None = Field(
        None,
        max_length=32,
        description="In addition to those of the HardwareClass.",
        json_schema_extra=list_atomic(),
    )
    volumes: list[Volume] | None = Field(
        None, max_length=32, description="More volumes.", json_schema_extra=list_map("name")
    )
    env: list[EnvVar] | None = Field(
        None,
        max_length=64,
        description="More variables, in every container of the pods.",
        json_schema_extra=list_map("name"),
    )
    volume_mounts: list[VolumeMount] | None = Field(
        None,
        max_length=32,
        description="Mounts of the volumes above, in every container of the pods.",
        json_schema_extra=list_map("mountPath"),
    )
