"""``cycleops simulate``: a trace replayed against a plan, from files."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cycleops.cli.files import BadInputError
from cycleops.cli.plan import evidence_of, read
from cycleops.cli.traces import arrivals
from cycleops.planner.model import Candidate
from cycleops.planner.replay import Replayed, replay
from cycleops.planner.result import PlanGroup
from cycleops.service.question import question

__all__ = ["BadInputError", "run"]
_SHOWN = 40  # windows; the rest is in the JSON


def run(
    *,
    service_file: Path,
    profiles: Path,
    hardware: Path | None,
    what_if: str,
    plan_file: Path,
    trace_file: Path,
    window_seconds: float,
    replicas: int | None,
    cache_hit_ratio: float,
    json_file: Path | None,
    plot: Path | None,
) -> bool:
    """Whether the budget's percentile is held over the trace. Raises BadInputError."""
    service, spec, classes, found = read(service_file, profiles, hardware, what_if)
    variant, groups = _groups(plan_file, replicas)
    rate = float(spec.traffic.requests_per_second)
    asked = question(spec=spec, evidence=evidence_of(found), classes=classes, requests_per_second=rate)
    budget = asked.budget
    try:
        result = replay(
            arrivals_seconds=arrivals(trace_file),
            workload=dataclasses.replace(asked.workload, cache_hit_ratio=cache_hit_ratio),
            budget=budget,
            groups=[(_candidate(asked.candidates, variant, group.hardware), group) for group in groups],
            window_seconds=window_seconds,
            algorithm=asked.algorithm,
        )
    except ValueError as error:
        raise BadInputError(str(error)) from error
    label = f"{variant} on {' + '.join(group.label for group in groups)}"
    _show(result, label, budget.latency_milliseconds, Console())
    if json_file is not None:
        content = {"service": service.metadata.name, "plan": label, **dataclasses.asdict(result)}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(content, indent=2) + "\n")
    if plot is not None:
        from cycleops.cli.plots import windows

        windows(result, latency_milliseconds=budget.latency_milliseconds, title=label, path=plot)
    return result.latency_ms <= budget.latency_milliseconds


def _groups(file: Path, replicas: int | None) -> tuple[str, tuple[PlanGroup, ...]]:
    try:
        content: dict[str, Any] = json.loads(file.read_text())
        plan = content["plan"]
        groups = tuple(PlanGroup(**group) for group in plan["groups"])
        variant: str = plan["variant"]
        sound = all(group.replicas >= 1 and group.batch_size >= 1 for group in groups)
    except (ValueError, KeyError, TypeError) as error:
        message = f"{file} has no plan: write one that is feasible with `cycleops plan --json` ({error!r})"
        raise BadInputError(message) from error
    if not groups or not sound:
        raise BadInputError(f"{file}: a plan has one group or more, each with replicas and a batch of 1 or more")
    if replicas is None:
        return variant, groups
    if len(groups) > 1:
        raise BadInputError("--replicas is for plans of one class")
    return variant, (dataclasses.replace(groups[0], replicas=replicas),)


def _candidate(candidates: tuple[Candidate, ...], variant: str, hardware: str) -> Candidate:
    for one in candidates:
        if (one.profile.variant, one.hardware.name) == (variant, hardware):
            return one
    known = ", ".join(sorted(one.label for one in candidates))
    raise BadInputError(f"the plan's {variant} on {hardware} has no profile among those of spec.hardware: {known}")


def _show(result: Replayed, label: str, budget_milliseconds: float, console: Console) -> None:
    console.print(Text(f"{label}; {result.requests:,} requests in {result.seconds:g} s", style="bold"))
    table = Table(title="By window", title_justify="left")
    for column in ("From s", "Requests", "Per s", "p50 ms", "p99 ms", "Within budget", "Busy"):
        table.add_column(column, justify="right")
    for window in result.windows[:_SHOWN]:
        table.add_row(
            f"{window.begins_seconds:g}",
            f"{window.requests:,}",
            f"{window.requests_per_second:.2f}",
            f"{window.p50_ms:.1f}",
            f"{window.p99_ms:.1f}",
            f"{window.within:.2%}",
            f"{window.utilization:.0%}",
        )
    console.print(table)
    if len(result.windows) > _SHOWN:
        console.print(f"{len(result.windows) - _SHOWN} windows more are in --json")
    held = result.latency_ms <= budget_milliseconds
    text = (
        f"p{result.percentile:g} of T over the trace is {result.latency_ms:.1f} ms, "
        f"{'within' if held else 'above'} the budget of {budget_milliseconds:g} ms; {result.within:.2%} of the "
        f"requests are within it; p50 {result.p50_ms:.1f} ms, p99 {result.p99_ms:.1f} ms, busy "
        f"{result.utilization:.0%}."
    )
    console.print(Text(text, style="green" if held else "yellow"))
