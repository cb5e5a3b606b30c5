"""A pydantic model as the structural OpenAPI v3 schema that a CustomResourceDefinition takes.

Pydantic writes JSON schema; Kubernetes wants less of it: no ``$ref``, no ``null`` branches, boolean exclusive bounds,
and one shape for int-or-string. What OpenAPI can't say about the keys of a map becomes a CEL rule.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, NoDefault
from pydantic_core import to_jsonable_python

from cycleops.api.base import Kind

Schema = dict[str, Any]

_COPIED = (
    *("description", "type", "format", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum"),
    *("minItems", "maxItems", "minProperties", "maxProperties", "required", "default"),
    *("x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
)
# What stands for nothing here: titles are for forms, and the API server prunes unknown fields anyway.
_DROPPED = {"title", "additionalProperties", "uniqueItems"}
_HANDLED = {"$ref", "$defs", "anyOf", "const", "properties", "patternProperties", "propertyNames", "items"}
_KNOWN = {*_COPIED, *_DROPPED, *_HANDLED, "exclusiveMinimum", "exclusiveMaximum", "x-kubernetes-validations"}


class _WithFactories(GenerateJsonSchema):
    """Writes the defaults of factories too, and of models only what differs from their own defaults."""

    def get_default_value(self, schema: Any) -> Any:
        if "default" in schema:
            return schema["default"]
        factory = schema.get("default_factory")
        return NoDefault if factory is None or factory in (list, dict) else factory()

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, BaseModel):
            return dft.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
        if isinstance(dft, list):
            return [self.encode_default(item) for item in dft]
        return to_jsonable_python(dft)


def object_schema(kind: type[Kind]) -> Schema:
    """``openAPIV3Schema`` of a kind."""
    full = kind.model_json_schema(by_alias=True, schema_generator=_WithFactories)
    schema = _convert(full, full.get("$defs", {}))
    schema["properties"] = {
        "apiVersion": {"type": "string", "description": "Version of this schema.", "maxLength": 63},
        "kind": {"type": "string", "description": "Kind of this object.", "maxLength": 63},
        "metadata": {"type": "object"},
        **{name: schema["properties"][name] for name in ("spec", "status") if name in schema["properties"]},
    }
    schema["required"] = ["spec"]
    if "status" in schema["properties"]:
        schema["properties"]["status"] = _without_defaults(schema["properties"]["status"])
    return schema


def _convert(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    unknown = set(schema) - _KNOWN
    if unknown:
        raise ValueError(f"no rule for JSON schema's {sorted(unknown)} in {schema}")
    result = {key: schema[key] for key in _COPIED if schema.get(key) is not None}
    result = _inlined(schema, definitions) | result
    if "const" in schema:
        result["enum"] = [schema["const"]]
    _bounds(schema, result)
    if "properties" in schema:
        result["properties"] = {name: _convert(value, definitions) for name, value in schema["properties"].items()}
    if "items" in schema:
        result["items"] = _convert(schema["items"], definitions)
    # Pydantic writes a map's values below patternProperties when its keys have a pattern.
    for values in (schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()):
        if isinstance(values, Mapping):
            result["additionalProperties"] = _convert(values, definitions)
    validations = [*result.get("x-kubernetes-validations", []), *schema.get("x-kubernetes-validations", [])]
    validations += _key_rules(schema)
    if validations:
        result["x-kubernetes-validations"] = validations
    return result


def _inlined(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """What ``$ref`` or ``anyOf`` adds to a schema."""
    if "$ref" in schema:
        return _convert(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    if "anyOf" not in schema:
        return {}
    if schema.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    branches = [branch for branch in schema["anyOf"] if branch.get("type") != "null"]
    if len(branches) != 1:
        raise ValueError(f"a structural schema has no unions: {schema}")
    return _convert(branches[0], definitions)


def _bounds(schema: Mapping[str, Any], result: Schema) -> None:
    """OpenAPI 3.0 says ``minimum: 0, exclusiveMinimum: true`` where JSON schema says ``exclusiveMinimum: 0``."""
    for exclusive, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in schema:
            result |= {plain: schema[exclusive], exclusive: True}


def _key_rules(schema: Mapping[str, Any]) -> list[Schema]:
    maximum = schema.get("propertyNames", {}).get("maxLength")
    checks = [] if maximum is None else [f"k.size() <= {maximum}"]
    checks += [f"k.matches(r'{pattern}')" for pattern in schema.get("patternProperties", {})]
    if not checks:
        return []
    return [{"rule": f"self.all(k, {' && '.join(checks)})", "message": "has a key that is no valid name"}]


def _without_defaults(schema: Schema) -> Schema:
    """The status of an object is what the operator wrote, nothing added."""
    result = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in result:
        result["properties"] = {name: _without_defaults(value) for name, value in result["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in result:
            result[key] = _without_defaults(result[key])
    return result
