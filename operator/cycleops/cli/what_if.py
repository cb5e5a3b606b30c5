"""``--what-if rate=2x,p99=50ms``: a spec with some numbers changed."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.cli.files import BadInputError

Spec = dict[str, Any]
_NUMBER = re.compile(r"^(?P<number>[0-9]+(\.[0-9]+)?)(?P<unit>x|ms|s)?$")
_PERCENTILE = re.compile(r"^p(?P<percentile>[0-9]+(\.[0-9]+)?)$")


def changed(spec: CycleServiceSpec, text: str) -> CycleServiceSpec:
    """Raises BadInputError, which names the part that isn't understood."""
    content = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, separator, value = part.partition("=")
        match = _NUMBER.match(value)
        if not separator or match is None:
            raise BadInputError(f"--what-if {part!r} must be name=number, such as rate=2x or p99=50ms")
        _apply(content, name, Decimal(match["number"]), match["unit"] or "")
    try:
        return CycleServiceSpec.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(item) for item in first["loc"])
        raise BadInputError(f"--what-if {text!r}: spec.{where}: {first['msg']}") from error


def _apply(content: Spec, name: str, number: Decimal, unit: str) -> None:
    percentile = _PERCENTILE.match(name)
    if percentile is not None:
        content["budget"]["latency"] = {
            "percentile": percentile["percentile"],
            "milliseconds": _times(content["budget"]["latency"]["milliseconds"], number, unit),
        }
    elif name in _CHANGES:
        _CHANGES[name](content, number, unit)
    else:
        known = ", ".join(["p<percentile>", *_CHANGES])
        raise BadInputError(f"--what-if {name!r} is not known; there is {known}")


def _times(before: str, number: Decimal, unit: str) -> str:
    """Milliseconds: ``50ms``, ``0.05s``, ``50``, or ``2x`` of what was."""
    factors = {"": Decimal(1), "ms": Decimal(1), "s": Decimal(1000), "x": Decimal(before)}
    return format(number * factors[unit], "f")


def _plain(before: Any, number: Decimal, unit: str, name: str) -> Decimal:
    if unit not in ("", "x"):
        raise BadInputError(f"--what-if {name} takes a number or a factor such as 2x, no {unit}")
    return number * Decimal(str(before)) if unit else number


def _token_cap(key: str) -> Callable[[Spec, Decimal, str], None]:
    def change(content: Spec, number: Decimal, unit: str) -> None:
        caps = content["budget"].setdefault("generation", {})
        if unit == "x" and key not in caps:
            raise BadInputError(f"--what-if {number}x needs budget.generation.{key} in the spec")
        caps[key] = _times(caps.get(key, "0"), number, unit)

    return change


def _lengths(key: str) -> Callable[[Spec, Decimal, str], None]:
    """A factor stretches both quantiles; a number is all of them."""

    def change(content: Spec, number: Decimal, unit: str) -> None:
        lengths = content["traffic"].get(key, {})
        if unit == "x" and not lengths:
            raise BadInputError(f"--what-if {number}x needs traffic.{key} in the spec")
        content["traffic"][key] = {
            name: max(round(_plain(lengths.get(name, 1), number, unit, key)), 1) for name in ("p50", "p99")
        }

    return change


def _rate(content: Spec, number: Decimal, unit: str) -> None:
    traffic = content["traffic"]
    traffic["requestsPerSecond"] = format(_plain(traffic["requestsPerSecond"], number, unit, "rate"), "f")


def _replicas(content: Spec, number: Decimal, unit: str) -> None:
    replicas = content["replicas"]
    replicas["maximum"] = int(_plain(replicas["maximum"], number, unit, "replicas"))
    replicas["minimum"] = min(replicas["minimum"], replicas["maximum"])


def _drop(content: Spec, number: Decimal, unit: str) -> None:
    accuracy = content["budget"].get("accuracy")
    if accuracy is None or "maximumDrop" not in accuracy:
        raise BadInputError("--what-if drop needs budget.accuracy.maximumDrop in the spec")
    accuracy["maximumDrop"] = format(_plain(accuracy["maximumDrop"], number, unit, "drop"), "f")


def _minimum(content: Spec, number: Decimal, unit: str) -> None:
    accuracy = content["budget"].setdefault("accuracy", {})
    value = format(_plain(accuracy.get("minimum", 1), number, unit, "minimum"), "f")
    content["budget"]["accuracy"] = {key: accuracy[key] for key in ("metric",) if key in accuracy} | {"minimum": value}


def _loss(content: Spec, number: Decimal, unit: str) -> None:
    _headroom(content, "replicas", number, unit, "loss")


def _zones(content: Spec, number: Decimal, unit: str) -> None:
    _headroom(content, "zones", number, unit, "zones")


def _headroom(content: Spec, field: str, number: Decimal, unit: str, name: str) -> None:
    """0 asks for none."""
    if unit:
        raise BadInputError(f"--what-if {name} takes a number, no {unit}")
    headroom = {key: value for key, value in (content.get("headroom") or {}).items() if key != field}
    content["headroom"] = headroom | ({field: int(number)} if number else {})


_CHANGES: dict[str, Callable[[Spec, Decimal, str], None]] = {
    "rate": _rate,
    "replicas": _replicas,
    "drop": _drop,
    "minimum": _minimum,
    "loss": _loss,
    "zones": _zones,
    "ttft": _token_cap("firstTokenMilliseconds"),
    "tpot": _token_cap("perTokenMilliseconds"),
    "input": _lengths("inputTokens"),
    "output": _lengths("outputTokens"),
}
