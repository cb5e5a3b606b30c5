"""Building blocks of the API models: objects, bounded types, CEL rules."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, WithJsonSchema

from cycle_wire.base import WireModel
from cycleops.api.uri import PVC_PATTERN

QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]{1,9})?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[0-9]{1,2})?$"
LABEL_KEY_PATTERN = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
)
DNS_LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


class ApiModel(WireModel):
    """Part of an API object. The API server has refused unknown fields already; those of a newer CRD are ignored."""

    model_config = ConfigDict(extra="ignore")


class Meta(ApiModel):
    """What the operator reads of an object's metadata."""

    name: str
    uid: str = ""
    namespace: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Column(NamedTuple):
    """A column of ``kubectl get``."""

    name: str
    path: str
    type: str = "string"
    description: str = ""
    wide: bool = False


class Scale(NamedTuple):
    """JSON paths of the scale subresource."""

    replicas: str
    status_replicas: str
    selector: str


class Kind(ApiModel):
    """A whole API object. Subclasses add ``spec`` and most of them ``status``."""

    PLURAL: ClassVar[str]
    SHORT_NAME: ClassVar[str]
    NAMESPACED: ClassVar[bool] = True
    COLUMNS: ClassVar[tuple[Column, ...]] = ()
    SCALE: ClassVar[Scale | None] = None

    api_version: str
    kind: str
    metadata: Meta


def rule(expression: str, message: str, path: str | None = None) -> dict[str, JsonValue]:
    """One CEL rule. ``path`` says to which field below the rule's own the message belongs, such as ``.data.train``."""
    result: dict[str, JsonValue] = {"rule": expression, "message": message}
    return result | ({"fieldPath": path} if path else {})


def rules(*items: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """CEL rules as extra keys of a JSON schema. They stand on the parent: a field's own rule misses its removal."""
    return {"x-kubernetes-validations": list(items)}


def short_name() -> dict[str, JsonValue]:
    """Rule for kinds whose children are called NAME-something and must be valid host names."""
    check = "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    return rules(rule(check, "metadata.name must be an RFC 1035 label of at most 40 characters", ".metadata"))


def list_set() -> dict[str, JsonValue]:
    """A list in which no value is twice."""
    return {"x-kubernetes-list-type": "set"}


def list_map(*keys: str) -> dict[str, JsonValue]:
    """A list in which no two items have the same keys; server-side apply merges it by them."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def list_atomic() -> dict[str, JsonValue]:
    """A list that server-side apply replaces as a whole."""
    return {"x-kubernetes-list-type": "atomic"}


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    BeforeValidator(_text),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 0,
            "pattern": QUANTITY_PATTERN,
            "maxLength": 32,
        }
    ),
]

LABEL_VALUE_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
LabelKey = Annotated[str, Field(min_length=1, max_length=317, pattern=LABEL_KEY_PATTERN)]
LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE_PATTERN)]
Text = Annotated[str, Field(max_length=1024)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN_PATTERN)]
DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL_PATTERN)]
ImageName = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[!-~]+$")]
Uri = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1024,
        description="pvc://CLAIM/PATH: a folder or file on a PersistentVolumeClaim of this namespace.",
        json_schema_extra=rules(
            rule("self.startsWith('pvc://')", "must be pvc://CLAIM/PATH, which is what works today"),
            rule(
                f"!self.startsWith('pvc://') || self.matches(r'{PVC_PATTERN}')",
                "must be pvc://CLAIM/PATH with a valid claim name and without '.' or '..' in the path",
            ),
        ),
    ),
]
