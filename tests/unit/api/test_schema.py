"""From pydantic's JSON schema to a structural one."""

from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field

from cycleops.api.base import ApiModel, Kind, rule
from cycleops.api.schema import object_schema


class Inner(ApiModel):
    ratio: float = Field(0.5, gt=0, lt=1)
    count: int | None = Field(None, ge=1)


class Spec(ApiModel):
    """Spec."""

    inner: Inner = Field(default_factory=lambda: Inner(count=3), description="Said here.")
    level: Literal["Low"] = "Low"
    names: Annotated[dict[Annotated[str, Field(max_length=9, pattern="^[a-z.]+$")], str], Field(max_length=4)] = Field(
        default_factory=dict
    )
    words: list[str] | None = Field(None, max_length=3)


class Thing(Kind):
    """A thing."""

    PLURAL: ClassVar[str] = "things"
    SHORT_NAME: ClassVar[str] = "th"

    spec: Spec


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    result: dict[str, Any] = object_schema(Thing)["properties"]["spec"]
    return result


def test_reference_is_inlined_under_the_description_of_its_place(spec: dict[str, Any]) -> None:
    inner = spec["properties"]["inner"]
    assert inner["description"] == "Said here."
    assert inner["type"] == "object"
    assert inner["default"] == {"count": 3}


def test_exclusive_bounds_become_booleans(spec: dict[str, Any]) -> None:
    ratio = spec["properties"]["inner"]["properties"]["ratio"]
    assert ratio == {
        **{"type": "number", "default": 0.5},
        **{"minimum": 0, "exclusiveMinimum": True, "maximum": 1, "exclusiveMaximum": True},
    }


def test_null_branch_goes(spec: dict[str, Any]) -> None:
    assert spec["properties"]["inner"]["properties"]["count"] == {"type": "integer", "minimum": 1}
    assert spec["properties"]["words"] == {"type": "array", "maxItems": 3, "items": {"type": "string"}}


def test_constant_becomes_enum(spec: dict[str, Any]) -> None:
    assert spec["properties"]["level"] == {"type": "string", "enum": ["Low"], "default": "Low"}


def test_keys_of_a_map_become_a_rule(spec: dict[str, Any]) -> None:
    names = spec["properties"]["names"]
    assert names["additionalProperties"] == {"type": "string"}
    assert names["maxProperties"] == 4
    assert names["x-kubernetes-validations"][0]["rule"] == "self.all(k, k.size() <= 9 && k.matches(r'^[a-z.]+$'))"
    assert "default" not in names


def test_union_is_refused() -> None:
    class Either(ApiModel):
        value: int | str

    class Bad(Kind):
        """Bad."""

        PLURAL: ClassVar[str] = "bads"
        SHORT_NAME: ClassVar[str] = "bad"

        spec: Either

    with pytest.raises(ValueError, match="no unions"):
        object_schema(Bad)


def test_unknown_keyword_is_refused() -> None:
    class Odd(ApiModel):
        value: int = Field(multiple_of=3)

    class Bad(Kind):
        """Bad."""

        PLURAL: ClassVar[str] = "bads"
        SHORT_NAME: ClassVar[str] = "bad"

        spec: Odd

    with pytest.raises(ValueError, match="multipleOf"):
        object_schema(Bad)


def test_rule_has_a_path_only_when_given() -> None:
    assert rule("a", "b") == {"rule": "a", "message": "b"}
    assert rule("a", "b", ".c") == {"rule": "a", "message": "b", "fieldPath": ".c"}
