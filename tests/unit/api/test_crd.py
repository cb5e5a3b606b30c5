"""The CRDs as files: no drift, bounded, structural where one can tell without an API server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cycleops.api.crd import KINDS, MAXIMUM_BYTES, all_files, custom_resource_definition, drift, main
from cycleops.api.reference import text
from cycleops.api.schema import object_schema

ROOT = Path(__file__).parents[3]
Schema = dict[str, Any]
SCHEMAS = {kind.__name__: object_schema(kind) for kind in KINDS}


def nodes(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[{key}]")


EVERY_NODE = [pytest.param(schema, id=path) for kind, whole in SCHEMAS.items() for path, schema in nodes(whole, kind)]


def test_committed_files_are_those_of_the_models() -> None:
    assert drift(ROOT / "crds") == []


def test_committed_reference_is_that_of_the_models() -> None:
    assert (ROOT / "docs/reference/api.md").read_text() == text()


def test_check_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    (tmp_path / "cycleops.dev_cyclejobs.yaml").unlink()
    (tmp_path / "cycleops.dev_cycleservices.yaml").write_text("")
    (tmp_path / "old.yaml").write_text("")
    capsys.readouterr()
    assert main(["--check", str(tmp_path)]) == 1
    lines = capsys.readouterr().err
    assert "cycleops.dev_cyclejobs.yaml is missing" in lines
    assert "cycleops.dev_cycleservices.yaml differs" in lines
    assert "old.yaml is not made from the models" in lines


@pytest.mark.parametrize("name", sorted(all_files()))
def test_plain_kubectl_apply_can_carry_it(name: str) -> None:
    assert len(all_files()[name].encode()) < MAXIMUM_BYTES


@pytest.mark.parametrize("schema", EVERY_NODE)
def test_every_node_is_bounded_and_typed(schema: Schema) -> None:
    if schema.get("x-kubernetes-int-or-string"):
        assert schema["anyOf"] == [{"type": "integer"}, {"type": "string"}]
        assert {"pattern", "maxLength"} <= schema.keys()
        assert "minimum" in schema or "x-kubernetes-validations" in schema, "negative integers pass"
        return
    assert "anyOf" not in schema
    assert schema["type"] in {"object", "array", "string", "integer", "number", "boolean"}
    if schema["type"] == "string":
        assert {"maxLength", "enum", "format"} & schema.keys()
    if schema["type"] == "array":
        assert "maxItems" in schema
        assert "items" in schema
    if schema["type"] == "object" and "additionalProperties" in schema:
        assert "maxProperties" in schema
    for word in ("$ref", "title", "const", "x-kubernetes-preserve-unknown-fields"):
        assert word not in schema
    for exclusive in ("exclusiveMinimum", "exclusiveMaximum"):
        assert schema.get(exclusive, True) is True


@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_status_has_no_defaults(kind: str) -> None:
    status = SCHEMAS[kind]["properties"].get("status", {})
    assert [path for path, node in nodes(status, "status") if "default" in node] == []


# A CycleProfile is the wire contract's, written and read by programs.
@pytest.mark.parametrize("kind", ["CycleJob", "CycleService", "HardwareClass"])
def test_every_spec_field_is_described(kind: str) -> None:
    spec = SCHEMAS[kind]["properties"]["spec"]
    assert [
        path
        for path, node in nodes(spec, "spec")
        if path != "spec" and not path.endswith("]") and not node.get("description")
    ] == []


def test_job_definition() -> None:
    job = custom_resource_definition(KINDS[0])["spec"]
    assert job["names"]["shortNames"] == ["cyj"]
    assert job["scope"] == "Namespaced"
    (version,) = job["versions"]
    assert [column["name"] for column in version["additionalPrinterColumns"] if "priority" not in column] == [
        *("Succeeded", "Reason", "Workers", "Step", "Age")
    ]
    assert version["subresources"]["scale"]["specReplicasPath"] == ".spec.workers.replicas"
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert spec["variants"]["x-kubernetes-list-map-keys"] == ["name"]
    assert spec["variants"]["default"] == [{"name": "fp32"}]
    assert spec["evaluation"]["properties"]["metrics"]["x-kubernetes-list-type"] == "set"
    sparsity = spec["variants"]["items"]["properties"]["pruning"]["properties"]["sparsity"]
    assert sparsity["x-kubernetes-validations"] == [
        {"rule": "double(self) > 0.0 && double(self) < 1.0", "message": "must be above 0 and below 1"}
    ]
