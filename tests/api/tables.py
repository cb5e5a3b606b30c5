"""Tables of manifests: what the API server must accept, refuse, and let change."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
MANIFESTS = Path(__file__).parent / "manifests"


@dataclass(frozen=True)
class Case:
    """One row. ``expect`` is empty where the API server accepts."""

    name: str
    base: Object
    change: Object
    expect: tuple[str, ...]

    @property
    def changed(self) -> Object:
        result: Object = merged(self.base, self.change)
        return result


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, lists are replaced. ``{repeat: [a, b, n]}`` stands for a + b * n."""
    if not isinstance(patch, dict):
        return patch
    if set(patch) == {"repeat"}:
        prefix, unit, times = patch["repeat"]
        return f"{prefix}{unit * times}"
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


@cache
def documents(path: Path) -> tuple[Any, ...]:
    return tuple(yaml.safe_load_all(path.read_text()))


def base(name: str) -> Object:
    """A manifest of bases.yaml, or ``examples/FILE[INDEX]``."""
    if "[" in name:
        path, _, index = name.rstrip("]").partition("[")
        found: Object = documents(ROOT / path)[int(index)]
    else:
        found = documents(MANIFESTS / "bases.yaml")[0][name]
    return found


def cases(table: str) -> list[Case]:
    (rows,) = documents(MANIFESTS / f"{table}.yaml")
    return [
        Case(
            name=row["name"], base=base(row["base"]), change=row.get("change", {}), expect=tuple(row.get("expect", ()))
        )
        for row in rows
    ]
