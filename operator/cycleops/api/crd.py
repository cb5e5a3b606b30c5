"""CustomResourceDefinitions, made from the models.

``python -m cycleops.api.crd [--check] DIR`` writes one file per kind into DIR, or says which differ from the models.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from cycleops.api import GROUP, VERSION
from cycleops.api.base import Column, Kind
from cycleops.api.cyclejob import CycleJob
from cycleops.api.cycleprofile import CycleProfile
from cycleops.api.cycleservice import CycleService
from cycleops.api.hardwareclass import HardwareClass
from cycleops.api.schema import object_schema

KINDS: tuple[type[Kind], ...] = (CycleJob, CycleService, CycleProfile, HardwareClass)
# kubectl apply keeps the whole object in an annotation, which the API server bounds.
MAXIMUM_BYTES = 262_144
HEADER = "# Made from operator/cycleops/api by `make generate`; do not edit.\n"


def custom_resource_definition(kind: type[Kind]) -> dict[str, Any]:
    schema = object_schema(kind)
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in kind.COLUMNS],
        "schema": {"openAPIV3Schema": schema},
    }
    subresources: dict[str, Any] = {"status": {}} if "status" in schema["properties"] else {}
    if kind.SCALE is not None:
        subresources["scale"] = {
            "specReplicasPath": kind.SCALE.replicas,
            "statusReplicasPath": kind.SCALE.status_replicas,
            "labelSelectorPath": kind.SCALE.selector,
        }
    if subresources:
        version["subresources"] = subresources
    name = kind.__name__
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.NAMESPACED else "Cluster",
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": kind.PLURAL,
                "singular": name.lower(),
                "shortNames": [kind.SHORT_NAME],
                "categories": ["cycleops"],
            },
            "versions": [version],
        },
    }


def _column(column: Column) -> dict[str, Any]:
    result: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        result["description"] = column.description
    return result | ({"priority": 1} if column.wide else {})


def all_files() -> dict[str, str]:
    """File name -> YAML of each CRD; raises ValueError when one grew too large for plain ``kubectl apply``."""
    files = {}
    for kind in KINDS:
        text = HEADER + yaml.dump(
            custom_resource_definition(kind), Dumper=_PlainDumper, sort_keys=False, width=120, allow_unicode=True
        )
        if len(text.encode()) >= MAXIMUM_BYTES:
            raise ValueError(f"CRD of {kind.__name__} has {len(text.encode())} bytes; {MAXIMUM_BYTES} are too many")
        files[f"{GROUP}_{kind.PLURAL}.yaml"] = text
    return files


class _PlainDumper(yaml.SafeDumper):
    """Repeats shared parts instead of pointing at them: not every reader of CRDs knows YAML aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is yaml's
        return True


def drift(folder: Path) -> list[str]:
    """What differs between a folder and the models; empty when nothing does."""
    files = all_files()
    found = {path.name: path.read_text() for path in folder.glob("*.yaml")}
    changed = sorted(name for name in files.keys() & found.keys() if files[name] != found[name])
    return [
        *(f"{folder / name} is missing" for name in sorted(files.keys() - found.keys())),
        *(f"{folder / name} is not made from the models" for name in sorted(found.keys() - files.keys())),
        *(f"{folder / name} differs from the models" for name in changed),
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cycleops.api.crd", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file differs")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    if options.check:
        differences = drift(options.folder)
        for line in differences:
            print(line, file=sys.stderr)
        if differences:
            print("run `make generate`", file=sys.stderr)
        return 1 if differences else 0
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, text in all_files().items():
        (options.folder / name).write_text(text)
        print(f"{options.folder / name}: {len(text.encode())} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
