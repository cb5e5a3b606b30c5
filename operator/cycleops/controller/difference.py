"""Whether what is there has every field that we want, in the form that we want. Fields of others don't count."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
}
# The API server rewrites quantities ("1000m" becomes "1"): compare them by value where they occur.
_QUANTITY_PARENTS = ("requests", "limits", "sizeLimit", "capacity")
# What tells the items of a list apart, as in the API's own list maps.
_ITEM_KEYS = ("name", "uid", "containerPort", "mountPath", "port", "topologyKey")


def first_difference(desired: Any, observed: Any, path: str = "") -> str | None:
    """Path of the first field of ``desired`` that ``observed`` lacks or holds otherwise; None when it holds all.

    Items of lists of objects are matched by name, others by position. Items that are only observed (injected
    containers, tolerations of a queue) are someone else's. An empty desired object or list asks for nothing.
    """
    if isinstance(desired, Mapping):
        return _of_mappings(desired, observed, path)
    if isinstance(desired, Sequence) and not isinstance(desired, str):
        return _of_lists(desired, observed, path)
    if desired == observed:
        return None
    parts = path.split(".")
    if any(part in _QUANTITY_PARENTS for part in parts[-2:]) and _quantity(desired) == _quantity(observed):
        return None
    return path or "."


def _of_mappings(desired: Mapping[str, Any], observed: Any, path: str) -> str | None:
    if not desired:
        return None
    if not isinstance(observed, Mapping):
        return path or "."
    for name, value in desired.items():
        inner = f"{path}.{name}" if path else name
        # The API server drops empty fields.
        if name not in observed and value not in ({}, [], "", None):
            return inner
        if name in observed:
            found = first_difference(value, observed[name], inner)
            if found is not None:
                return found
    return None


def _of_lists(desired: Sequence[Any], observed: Any, path: str) -> str | None:
    if not desired:
        return None
    if not isinstance(observed, Sequence):
        return path
    key = next((k for k in _ITEM_KEYS if all(isinstance(item, Mapping) and k in item for item in desired)), None)
    if key is None:
        # A list of scalars (a command line) is one value; of nameless objects (tolerations) others may add their own.
        if not isinstance(desired[0], Mapping):
            return None if list(desired) == list(observed) else path
        if len(desired) > len(observed):
            return path
        pairs = list(zip(desired, observed, strict=False))
    else:
        by_key = {item.get(key): item for item in observed if isinstance(item, Mapping)}
        pairs = [(item, by_key.get(item[key])) for item in desired]
    for index, (want, have) in enumerate(pairs):
        inner = f"{path}[{want[key] if key else index}]"
        if have is None:
            return inner
        found = first_difference(want, have, inner)
        if found is not None:
            return found
    return None


def _quantity(value: Any) -> Decimal | None:
    text = str(value)
    digits = text.rstrip("numkMGTi")
    try:
        return Decimal(digits) * _SUFFIXES[text[len(digits) :]]
    except (InvalidOperation, KeyError):
        return None
