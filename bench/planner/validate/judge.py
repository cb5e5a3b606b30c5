"""Predictions held against measurements: the table, and whether the targets are met. Pure."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich.table import Table

from bench.planner.validate.scenarios import WANTED_HALF_WIDTH, Scenario

MEDIAN_ERROR, LARGE_ERROR = 0.10, 0.15
WITHIN_SHARE = 10 / 12  # of the scored scenarios: within LARGE_ERROR
LEAST_SCORED = 12
SAFE_MARGIN = 0.15  # of the budget: a plan that keeps so far below it must not break it

Row = dict[str, Any]


def rows(scenarios: Sequence[Scenario], predictions: Sequence[Row], measured: Sequence[Row]) -> list[Row]:
    """Of the scenarios that were predicted and measured; a measurement older than its prediction is none."""
    said, seen = ({row["name"]: row for row in those} for those in (predictions, measured))
    both = [one for one in scenarios if one.name in said and one.name in seen]
    return [
        _row(one, said[one.name], seen[one.name])
        for one in both
        if seen[one.name]["measuredAt"] >= said[one.name]["predictedAt"]
    ]


def _row(scenario: Scenario, said: Mapping[str, Any], seen: Mapping[str, Any]) -> Row:
    predicted, budget = said["predictedP99Ms"], said["budgetMs"]
    return {
        "name": scenario.name,
        "scored": scenario.scored,
        "load": scenario.load,
        "ratePerSecond": round(said["ratePerSecond"], 1),
        "predictedP50Ms": _rounded(said["predictedP50Ms"]),
        "measuredP50Ms": _rounded(seen["p50Ms"]),
        "predictedP99Ms": _rounded(predicted),
        "measuredP99Ms": _rounded(seen["p99Ms"]),
        "p99Error": None if predicted is None else round(seen["p99Ms"] / predicted - 1, 4),
        "halfWidth": round(seen["halfWidth"], 4) if math.isfinite(seen["halfWidth"]) else None,
        "decided": seen["halfWidth"] <= WANTED_HALF_WIDTH and not seen["errors"],
        "requests": seen["requests"],
        "errors": seen["errors"],
        "predictedHitRatio": round(said["hitRatio"], 3),
        "measuredHitRatio": round(seen["hitRatio"], 3),
        "otherLoad": round(seen["otherLoad"], 3),
        "budgetMs": budget,
        "predictedMet": said["predictedMet"],
        "measuredMet": seen["p99Ms"] <= budget,
    }


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None or not math.isfinite(milliseconds) else round(milliseconds, 2)


def verdict(found: Sequence[Row]) -> list[tuple[bool, str]]:
    """Each target with its numbers, and whether it is met. Undecided scenarios count as beyond every error."""
    scored = [row for row in found if row["scored"]]
    if not scored:
        return [(False, "no scored scenario was measured")]
    errors = [abs(row["p99Error"]) if row["decided"] and row["p99Error"] is not None else math.inf for row in scored]
    within = sum(error <= LARGE_ERROR for error in errors)
    needed = math.ceil(WITHIN_SHARE * len(scored) - 1e-9)
    broken = [row["name"] for row in scored if _safely_met(row) and not row["measuredMet"]]
    undecided = [row["name"] for row in scored if not row["decided"]]
    return [
        (len(scored) >= LEAST_SCORED, f"{len(scored)} scenarios (at least {LEAST_SCORED})"),
        (median(errors) <= MEDIAN_ERROR, f"median error of p99 {median(errors):.1%} (at most {MEDIAN_ERROR:.0%})"),
        (
            within >= needed,
            f"{within} of {len(scored)} within {LARGE_ERROR:.0%} (at least {needed})"
            + (f"; undecided: {', '.join(undecided)}" if undecided else ""),
        ),
        (
            not broken,
            f"budgets broken that were predicted met with more than {SAFE_MARGIN:.0%} margin: "
            + (", ".join(broken) or "none"),
        ),
    ]


def _safely_met(row: Row) -> bool:
    predicted = row["predictedP99Ms"]
    return bool(row["predictedMet"]) and predicted is not None and predicted <= (1 - SAFE_MARGIN) * row["budgetMs"]


def table(found: Sequence[Row]) -> Table:
    shown = Table(title="T in milliseconds, predicted and then measured")
    for column in (
        "scenario", "load", "rate/s", "p50 predicted", "measured", "p99 predicted", "measured", "error", "+-", "budget",
        "met: predicted, measured", "others",
    ):  # fmt: skip
        shown.add_column(column, justify="left" if column == "scenario" else "right")
    for row in found:
        shown.add_row(
            row["name"] + ("" if row["scored"] else " (unscored)"),
            f"{row['load']:.0%}",
            f"{row['ratePerSecond']:g}",
            *(_cell(row[key]) for key in ("predictedP50Ms", "measuredP50Ms", "predictedP99Ms", "measuredP99Ms")),
            "-" if row["p99Error"] is None else f"{row['p99Error']:+.1%}",
            ("-" if row["halfWidth"] is None else f"{row['halfWidth']:.1%}") + ("" if row["decided"] else " undecided"),
            f"{row['budgetMs']:g}",
            f"{_yes(row['predictedMet'])}, {_yes(row['measuredMet'])}",
            f"{row['otherLoad']:.2f}",
        )
    return shown


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _yes(met: bool) -> str:
    return "yes" if met else "no"
