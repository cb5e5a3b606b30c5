"""A plan as tables for a terminal."""

from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.planner import Plan, PlanResult, Rejected, Term


def show(result: PlanResult, *, spec: CycleServiceSpec, name: str, console: Console) -> None:
    """The question, the plan with its terms, why the others lost, and the sentences."""
    console.print(_question(spec, name))
    if result.plan is not None:
        console.print(_plan(result.plan, feasible=result.feasible))
        console.print(_terms(result.plan))
    if result.rejected:
        console.print(_rejected(result))
    if result.nearest:
        console.print(_nearest(result))
    for sentence in result.sentences:
        console.print(Text(sentence, style="green" if result.feasible else "yellow"))


def _question(spec: CycleServiceSpec, name: str) -> Text:
    latency, tokens = spec.budget.latency, spec.traffic.input_tokens
    parts = [
        f"{name}: p{latency.percentile} of T within {latency.milliseconds} ms",
        f"{spec.traffic.requests_per_second} requests/s",
        f"inputs of {tokens.p50} (p50) to {tokens.p99} (p99) tokens" if tokens else "inputs as long as measured",
        *_of_generation(spec),
        f"{spec.replicas.minimum} to {spec.replicas.maximum} replicas of {', '.join(spec.hardware)}",
    ]
    if spec.budget.accuracy is not None:
        floor = spec.budget.accuracy
        what = f"at least {floor.minimum}" if floor.minimum is not None else ""
        drop = f"at most {floor.maximum_drop} below {floor.baseline}" if floor.maximum_drop is not None else ""
        parts.append(f"{floor.metric} {what or drop}")
    return Text("; ".join(parts), style="bold")


def _of_generation(spec: CycleServiceSpec) -> list[str]:
    caps, tokens = spec.budget.generation, spec.traffic.output_tokens
    parts = [f"answers of {tokens.p50} (p50) to {tokens.p99} (p99) tokens"] if tokens else []
    if caps is not None and caps.first_token_milliseconds is not None:
        parts.append(f"first token within {caps.first_token_milliseconds} ms")
    if caps is not None and caps.per_token_milliseconds is not None:
        parts.append(f"{caps.per_token_milliseconds} ms per token")
    return parts


def _plan(plan: Plan, *, feasible: bool) -> Table:
    table = Table(title="Plan" if feasible else "Pinned plan (does not meet the budget)", title_justify="left")
    batch = "Batch" if plan.predicted.generation is None else "At once"
    for column in ("Variant", "Hardware", batch, "Delay", "Replicas", "Cost/h", "Accuracy", "Busy"):
        table.add_column(column, justify="left" if column in ("Variant", "Hardware") else "right")
    for group in plan.groups:
        table.add_row(
            plan.variant,
            group.hardware,
            str(group.batch_size),
            f"{group.delay_milliseconds:g} ms",
            str(group.replicas),
            f"{group.cost_per_hour:g}",
            "-" if plan.accuracy is None else f"{plan.accuracy:.4f}",
            f"{plan.predicted.utilization:.0%}",
        )
    if len(plan.groups) > 1:
        table.add_section()
        table.add_row("together", "", "", "", str(plan.replicas), f"{plan.cost_per_hour:g}", "", "")
    return table


def _terms(plan: Plan) -> Table:
    predicted = plan.predicted
    table = Table(title="Predicted, in ms (quantiles of terms don't add up)", title_justify="left")
    for column in ("Term", "Mean", "p50", "p99"):
        table.add_column(column, justify="left" if column == "Term" else "right")
    for name in ("overhead", "pre", "queue", "compute", "post"):
        term: Term = getattr(predicted, name)
        table.add_row(name, f"{term.mean_ms:.2f}", f"{term.p50_ms:.2f}", f"{term.p99_ms:.2f}")
    table.add_section()
    at = f"p{predicted.percentile:g}"
    if predicted.generation is not None:
        for name, time in (
            ("to first token", predicted.generation.first_token),
            ("per token", predicted.generation.per_token),
        ):
            table.add_row(name, f"{time.mean_ms:.2f}", f"{time.p50_ms:.2f}", f"{time.p99_ms:.2f}")
            table.add_row(f"{name} at {at}", "", "", _between(time.budgeted_ms, time.low_ms, time.high_ms))
    table.add_row("T", "", f"{predicted.p50_ms:.2f}", f"{predicted.p99_ms:.2f}")
    table.add_row(f"T at {at}", "", "", _between(predicted.latency_ms, predicted.low_ms, predicted.high_ms))
    return table


def _between(value: float, low: float, high: float) -> str:
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def _rejected(result: PlanResult) -> Table:
    """One row where a candidate lost at several batch sizes for one reason; the sentence is of the first of them."""
    table = Table(title="Why the others lost", title_justify="left")
    for column in ("Variant", "Hardware", "Batch", "Reason", "Because"):
        table.add_column(column, overflow="fold")

    def key(item: Rejected) -> tuple[str, str, str]:
        return item.variant, item.hardware, item.reason.value

    for (variant, hardware, reason), group in groupby(sorted(result.rejected, key=key), key=key):
        items = sorted(group, key=lambda item: item.batch_size or 0)
        batches = ", ".join("any" if item.batch_size is None else str(item.batch_size) for item in items)
        table.add_row(variant, hardware, batches, reason, items[0].message)
    return table


def _nearest(result: PlanResult) -> Table:
    table = Table(title="Nearest feasible: one change at a time", title_justify="left")
    for column in ("Change", "To", "Cost/h", "Plan"):
        table.add_column(column, justify="right" if column in ("To", "Cost/h") else "left")
    for item in result.nearest:
        table.add_row(item.dimension.value, f"{item.value:g}", f"{item.cost_per_hour:g}", item.plan.label)
    return table
