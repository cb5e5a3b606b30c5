"""Volumes that users may add to pods; with Kubernetes' own field names."""

from typing import Annotated

from pydantic import ConfigDict, Field

from cycleops.api.base import ApiModel, DnsLabel, ObjectName, Quantity, rule, rules

MountPath = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^/[^:]*$")]
RelativePath = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^/]")]


class ClaimSource(ApiModel):
    claim_name: ObjectName = Field(description="PersistentVolumeClaim of this namespace.")
    read_only: bool | None = Field(None, description="Mount it read-only.")


class KeyToPath(ApiModel):
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Key to project.")
    path: RelativePath = Field(description="File it becomes, relative to the mount.")


class ConfigMapSource(ApiModel):
    name: ObjectName = Field(description="ConfigMap of this namespace.")
    items: list[KeyToPath] | None = Field(None, max_length=64, description="Only these keys.")
    optional: bool | None = Field(None, description="Start the pod without it when it is not there.")


class SecretSource(ApiModel):
    secret_name: ObjectName = Field(description="Secret of this namespace.")
    items: list[KeyToPath] | None = Field(None, max_length=64, description="Only these keys.")
    optional: bool | None = Field(None, description="Start the pod without it when it is not there.")


class EmptyDirSource(ApiModel):
    medium: Annotated[str, Field(max_length=63, pattern=r"^(Memory|HugePages.*)?$")] | None = Field(
        None, description="Memory for a tmpfs."
    )
    size_limit: Quantity | None = Field(None, description="The pod is evicted when it grows above.")


class Volume(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "[has(self.persistentVolumeClaim), has(self.configMap), has(self.secret), has(self.emptyDir)]"
                ".filter(x, x).size() == 1",
                "exactly one of persistentVolumeClaim, configMap, secret and emptyDir must be given",
            )
        )
    )

    name: DnsLabel = Field(description="Name that volumeMounts refer to.")
    persistent_volume_claim: ClaimSource | None = Field(None, description="A claim of this namespace.")
    config_map: ConfigMapSource | None = Field(None, description="Files from a ConfigMap.")
    secret: SecretSource | None = Field(None, description="Files from a Secret.")
    empty_dir: EmptyDirSource | None = Field(None, description="Scratch space that goes with the pod.")


class VolumeMount(ApiModel):
    name: DnsLabel = Field(description="Volume to mount.")
    mount_path: MountPath = Field(description="Where in the container.")
    sub_path: RelativePath | None = Field(None, description="Folder or file in the volume.")
    read_only: bool | None = Field(None, description="Mount it read-only.")
