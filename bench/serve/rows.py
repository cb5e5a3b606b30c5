"""What the benchmark found: collected per server, then a table and out/bench/serve.json."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
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

    @property
    def capacity(self) -> float:
        """Requests of mixed length per second within the budget."""
        return max(self.mixed)


def to_records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For JSON; what wasn't measured or never came is null."""
    direct = next(row for row in rows if row.server == DIRECT)
    return [
        {
            "server": row.server,
            "hops": row.hops,
            "throughputIdentical": _rounded(max(row.identical)),
            "throughputMixed": _rounded(max(row.mixed, default=math.nan)),
            "p50LowMs": _milliseconds(min(row.low_p50)),
            "addedP50LowMs": _milliseconds(min(row.low_p50) - min(direct.low_p50)),
            "p99At80Ms": _milliseconds(min(row.at_80_p99, default=math.nan)),
            "p99AtCommon80Ms": _milliseconds(min(row.at_common_80_p99, default=math.nan)),
            "rssMb": round(row.resident_bytes / 2**20) or None,
            "otherLoad": _rounded(max(row.others, default=math.nan)),
            "passes": {
                "throughputIdentical": [_rounded(rate) for rate in row.identical],
                "throughputMixed": [_rounded(rate) for rate in row.mixed],
                "p50LowMs": [_milliseconds(seconds) for seconds in row.low_p50],
                "p99At80Ms": [_milliseconds(seconds) for seconds in row.at_80_p99],
                "p99AtCommon80Ms": [_milliseconds(seconds) for seconds in row.at_common_80_p99],
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
    """The targets of the project, met or not, from this run's numbers."""
    by_name = {record["server"]: record for record in records}
    ours, direct = by_name[OURS], by_name[DIRECT]
    peers = [record for record in records if not record["server"].startswith((DIRECT, OURS))]

    def best(key: str, choose: Any) -> float:
        return float(choose(record[key] for record in peers if record[key] is not None))

    identical, mixed = ours["throughputIdentical"], ours["throughputMixed"]
    checks = [
        ("identical / direct call", identical / direct["throughputIdentical"], ">=", 0.95),
        ("identical / best peer", identical / best("throughputIdentical", max), ">=", 1.0),
        ("mixed / best peer", mixed / best("throughputMixed", max), ">=", 1.2),
        ("added p50 at low load, ms", ours["addedP50LowMs"], "<", 1.5),
        ("p99 at 80 % of own / best peer", _ratio(ours["p99At80Ms"], best("p99At80Ms", min)), "<=", 1.0),
        ("p99 at common 80 % / best peer", _ratio(ours["p99AtCommon80Ms"], best("p99AtCommon80Ms", min)), "<=", 1.0),
    ]
    lines = []
    for name, value, sign, bound in checks:
        met = {">=": value >= bound, "<": value < bound, "<=": value <= bound}[sign]
        lines.append(f"{'met   ' if met else 'MISSED'}  {name}: {value:.3f} (target {sign} {bound:g})")
    return "\n".join(lines)


def _ratio(value: float | None, other: float) -> float:
    return math.inf if value is None else value / other


def write_json(path: Any, records: Sequence[dict[str, Any]]) -> None:
    path.write_text(json.dumps(list(records), indent=1) + "\n", encoding="utf-8")
