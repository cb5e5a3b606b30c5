"""The API's reference, made from the same schemas as the CRDs.

``python -m cycleops.api.reference [--check] FILE`` writes it, or says that it differs from the models.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from cycleops.api import API_VERSION
from cycleops.api.base import Kind
from cycleops.api.conditions import JobCondition, ServiceCondition
from cycleops.api.crd import KINDS
from cycleops.api.reasons import CandidateReason, Reason, ScalingReason
from cycleops.api.schema import object_schema

INTRODUCTION = f"""# API reference

Made from `operator/cycleops/api` by `make generate`; do not edit. Version `{API_VERSION}`.

Numbers that are not whole are written as strings (`"0.02"`), because Kubernetes keeps floats out of specs; `20` and
`"20"` are the same. *Required* is marked with a star. A field whose default is not shown is left out by default.
"""


# Long, and documented by Kubernetes.
AS_IN_KUBERNETES = ("affinity",)


def text() -> str:
    parts = [INTRODUCTION, *(_kind(kind) for kind in KINDS), _conditions(), _reasons()]
    return "\n".join(parts)


def _kind(kind: type[Kind]) -> str:
    schema = object_schema(kind)
    scope = "in a namespace" if kind.NAMESPACED else "cluster-wide"
    lines = [f"## {kind.__name__}", "", schema["description"], ""]
    lines += [f"`kubectl get {kind.PLURAL}` or `{kind.SHORT_NAME}`; {scope}.", ""]
    for part in ("spec", "status"):
        if part in schema["properties"]:
            lines += [f"### {kind.__name__} {part}", "", *_table(schema["properties"][part]), ""]
    rules = list(_rules(schema, ""))
    fixed = [path for path, rule in rules if "oldSelf" in rule["rule"]]
    messages: dict[str, list[str]] = {}
    for path, rule in rules:
        if path not in fixed:
            messages.setdefault(rule["message"], []).append(path)
    if rules:
        lines += [f"### {kind.__name__} rules", ""]
        lines += [f"- {_code(paths)}: {message}" for message, paths in messages.items()]
        lines += [*([f"- can't be changed after creation: {_code(fixed)}"] if fixed else []), ""]
    return "\n".join(lines)


def _code(paths: Iterable[str]) -> str:
    return ", ".join(f"`{path}`" for path in paths)


def _table(schema: Mapping[str, Any]) -> Iterator[str]:
    yield "| field | type | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for path, required, field in _fields(schema, ""):
        default = f"`{json.dumps(field['default'])}`" if "default" in field else ""
        meaning = field.get("description", "").replace("|", "\\|").replace("\n", " ")
        yield f"| `{path}`{' *' if required else ''} | {_type(field)} | {default} | {meaning} |"


def _fields(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, bool, Mapping[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path, name in schema.get("required", ()), field
        if name in AS_IN_KUBERNETES:
            continue
        inner = field.get("items", field)
        yield from _fields(inner, f"{path}[]." if "items" in field else f"{path}.")


def _type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"])
    if field.get("x-kubernetes-int-or-string"):
        return "quantity" if "Ki" in field.get("pattern", "") else "decimal"
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    if "additionalProperties" in field:
        return f"map to {_type(field['additionalProperties'])}"
    if field.get("type") in ("integer", "number"):
        return f"{field['type']}{_range(field)}"
    return "time" if field.get("format") == "date-time" else str(field["type"])


def _range(field: Mapping[str, Any]) -> str:
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None and high is not None:
        return f", {low} to {high}"
    if low is not None:
        return f", at least {low}"
    return "" if high is None else f", at most {high}"


def _rules(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield (path + rule.get("fieldPath", "")).lstrip(".") or "metadata", rule
    for name, field in schema.get("properties", {}).items():
        if name in AS_IN_KUBERNETES:
            continue
        yield from _rules(field, f"{path}.{name}")
    if "items" in schema:
        yield from _rules(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from _rules(schema["additionalProperties"], f"{path}.*")


def _conditions() -> str:
    lines = ["## Conditions", ""]
    kinds: tuple[tuple[str, type[StrEnum]], ...] = (("CycleJob", JobCondition), ("CycleService", ServiceCondition))
    for name, conditions in kinds:
        lines += [f"- {name}: {', '.join(f'`{condition.value}`' for condition in conditions)}"]
    return "\n".join([*lines, ""])


def _reasons() -> str:
    head = ["", "| reason | meaning |", "| --- | --- |"]
    conditions = [f"| `{reason.value}` | {reason.meaning} |" for reason in Reason]
    candidates = [f"| `{reason.value}` | {reason.meaning} |" for reason in CandidateReason]
    scaling = [f"| `{reason.value}` | {reason.meaning} |" for reason in ScalingReason]
    lines = ["## Reasons of conditions", *head, *conditions, "", "## Reasons why a candidate lost", *head, *candidates]
    lines += ["", "## Reasons of the number of server pods", *head, *scaling]
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cycleops.api.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file differs")
    parser.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    if options.check:
        if options.file.exists() and options.file.read_text() == text():
            return 0
        print(f"{options.file} differs from the models: run `make generate`", file=sys.stderr)
        return 1
    options.file.parent.mkdir(parents=True, exist_ok=True)
    options.file.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
