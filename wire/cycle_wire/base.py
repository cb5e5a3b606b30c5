"""Base model, identifiers and decimals of the wire contract."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

DECIMAL_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,9})?(e-?[0-9]{1,2})?$"


class WireModel(BaseModel):
    """camelCase outside, snake_case inside; unknown fields are errors; instances don't change."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True, frozen=True)

    def to_json(self) -> str:
        """The model as it goes over the wire: camelCase, without fields that are None."""
        return self.model_dump_json(by_alias=True, exclude_none=True)

    def to_dict(self) -> dict[str, Any]:
        """Like :meth:`to_json`, as plain JSON types."""
        result: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return result


def _decimal(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number or a decimal string such as '0.25'")
    return value if isinstance(value, Decimal) else Decimal(str(value))


# No floats in a Kubernetes spec: a decimal is an integer or a string, so 20, "20" and "99.9" all work.
# Ends as a string, so that it round-trips exactly.
IntOrDecimal = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": DECIMAL_PATTERN,
            "maxLength": 26,
        }
    ),
]


def decimal_bounds(
    *, above: str | None = None, at_least: str | None = None, below: str | None = None, at_most: str | None = None
) -> dict[str, JsonValue]:
    """Bounds of an IntOrDecimal, for ``json_schema_extra``: a CEL rule, because OpenAPI has no bounds for strings."""
    bounds = {">": above, ">=": at_least, "<": below, "<=": at_most}
    given = {operator: Decimal(bound) for operator, bound in bounds.items() if bound is not None}
    words = {">": "above", ">=": "at least", "<": "below", "<=": "at most"}
    return {
        "x-kubernetes-validations": [
            {
                "rule": " && ".join(f"double(self) {operator} {float(bound)}" for operator, bound in given.items()),
                "message": "must be " + " and ".join(f"{words[operator]} {bound}" for operator, bound in given.items()),
            }
        ]
    }


Name = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)]
ContainerPath = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^/")]
