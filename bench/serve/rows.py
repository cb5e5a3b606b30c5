"""What the benchmark found: collected per server, then a table and out/bench/serve.json."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DIRECT = "direct"
OURS = "ours"


@dataclass
class Row:
    """Filled while the passes run, one value a pass: rates per second, times in seconds. Empty: not measured.

    A row's number is that of its better pass: whatever else runs on the machine only ever makes a server slower.
    """

    server: str
    hops: str
    identical: list[float] = field(default_factory=list)
    mixed: list[float] = field(default_factory=list)
    low_p50: list[float] = field(default_factory=list)
    at_80_p99: list[float] = field(default_factory=list)
    at_common_80_p99: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)  # share of a core that other processes took meanwhile
    resident_bytes: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def capacity(self) -> float:
        """Requests of mixed length per second within the budget; 0: none, or not measured."""
        return max(self.mixed, default=0.0)

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> "Row":
        """A row of an earlier call, as :func:`to_records` wrote it."""
        passes = record["passes"]
        times = {
            name: [math.inf if value is None else value / 1000 for value in passes[key]] for name, key in _TIMES.items()
        }
        rates = {name: list(passes[key]) for name, key in _RATES.items()}
        return cls(
            server=record["server"],
            hops=record["hops"],
            others=list(passes["otherLoad"]),
            resident_bytes=round((record["rssMb"] or 0) * 2**20),
            failures=list(record["failures"]),
            **times,
            **rates,
        )


_RATES = {"identical": "throughputIdentical", "mixed": "throughputMixed"}
_TIMES = {"low_p50": "p50LowMs", "at_80_p99": "p99At80Ms", "at_common_80_p99": "p99AtCommon80Ms"}


def to_records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For JSON; what wasn't measured or never came is null."""
    direct = min((low for row in rows if row.server == DIRECT for low in row.low_p50), default=math.nan)
    return [
        {
            "server": row.server,
            "hops": row.hops,
            **{key: _rounded(max(getattr(row, name), default=math.nan)) for name, key in _RATES.items()},
            **{key: _milliseconds(min(getattr(row, name), default=math.nan)) for name, key in _TIMES.items()},
            "addedP50LowMs": _milliseconds(min(row.low_p50, default=math.nan) - direct),
            "rssMb": round(row.resident_bytes / 2**20) or None,
            "otherLoad": _rounded(max(row.others, default=math.nan)),
            "failures": row.failures,
            "passes": {
                **{key: [_rounded(rate) for rate in getattr(row, name)] for name, key in _RATES.items()},
                **{key: [_milliseconds(seconds) for seconds in getattr(row, name)] for name, key in _TIMES.items()},
                "otherLoad": [_rounded(share) for share in row.others],
            },
        }
        for row in rows
    ]


def _rounded(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None


def _milliseconds(seconds: float) -> float | None:
    return _rounded(seconds * 1000)


COLUMNS = {
    "throughputIdentical": "identical/s",
    "throughputMixed": "mixed/s",
    "p50LowMs": "p50 low",
    "addedP50LowMs": "added",
    "p99At80Ms": "p99 at 80%",
    "p99AtCommon80Ms": "p99 common",
    "rssMb": "MiB",
    "otherLoad": "other load",
}


def table(records: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'server':<28}{'hops':<26}" + "".join(f"{title:>13}" for title in COLUMNS.values())]
    for record in records:
        cells = ("-" if record[key] is None else f"{record[key]:g}" for key in COLUMNS)
        lines.append(f"{record['server']:<28}{record['hops']:<26}" + "".join(f"{cell:>13}" for cell in cells))
    return "\n".join(lines)


def verdict(records: Sequence[dict[str, Any]]) -> str:
    """The targets of the project, met or not, from these numbers."""
    by_name = {record["server"]: record for record in records}
    peers = [record for record in records if not record["server"].startswith((DIRECT, OURS))]

    def own(name: str, key: str) -> float:
        record = by_name.get(name, {"passes": {}})
        never_came = bool(record["passes"].get(key))  # it was measured
        return float(record.get(key) or (math.inf if never_came else math.nan))

    def best(key: str, choose: Callable[..., float]) -> float:
        return choose((record[key] for record in peers if record[key] is not None), default=math.nan)

    identical = own(OURS, "throughputIdentical")
    checks = [
        ("identical / direct call", identical / own(DIRECT, "throughputIdentical"), ">=", 0.95),
        ("identical / best peer", identical / best("throughputIdentical", max), ">=", 1.0),
        ("mixed / best peer", own(OURS, "throughputMixed") / best("throughputMixed", max), ">=", 1.2),
        ("added p50 at low load, ms", own(OURS, "addedP50LowMs"), "<", 1.5),
        ("p99 at 80 % of own / best peer", own(OURS, "p99At80Ms") / best("p99At80Ms", min), "<=", 1.0),
        ("p99 at common 80 % / best peer", own(OURS, "p99AtCommon80Ms") / best("p99AtCommon80Ms", min), "<=", 1.0),
    ]
    lines = [
        f"{_judged(value, sign, bound):<13}{name}: {value:.3f} (target {sign} {bound:g})"
        for name, value, sign, bound in checks
    ]
    failed = [f"{record['server']}: {failure}" for record in records for failure in record["failures"]]
    return "\n".join([*lines, *(f"FAILED       {line}" for line in failed)])


def _judged(value: float, sign: str, bound: float) -> str:
    if math.isnan(value):
        return "not measured"
    met = {">=": value >= bound, "<": value < bound, "<=": value <= bound}[sign]
    return "met" if met else "MISSED"


def write_json(path: Path, rows: Sequence[Row]) -> None:
    """In one step: whoever is stopped in the middle leaves what was written before."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(to_records(rows), indent=1) + "\n", encoding="utf-8")
    new.replace(path)


def read_json(path: Path) -> list[Row]:
    """Rows of an earlier call; none without one."""
    return [Row.of_record(record) for record in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []
