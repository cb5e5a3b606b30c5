"""What the demo prints at its end, as tables."""

from typing import Any

from rich.table import Table

from cycle_wire.profile import Histogram

Object = dict[str, Any]
COMPARED = (
    ("p50", "p50Ms"), ("p99", "p99Ms"), ("pre (p50)", "preMs"), ("compute (p50)", "computeMs"),
    ("post (p50)", "postMs"), ("queue (p50)", "queueMs"),
)  # fmt: skip


def table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right")
    return made


def variants(report: Object) -> Table:
    """Accuracy and size per variant, beside the two baselines."""
    made = table("Variants", "variant", "accuracy", "macro F1", "MB", "sparsity")
    for name, metrics in (("majority class", "majority"), ("bag of words", "bagOfWords")):
        values = report["baseline"][metrics]
        made.add_row(f"[dim]{name}[/]", f"{values['accuracy']:.3f}", f"{values['f1Macro']:.3f}", "", "")
    for entry in report["job"]["variants"]:
        made.add_row(
            entry["name"], f"{entry['accuracy']:.3f}", f"{entry['f1Macro']:.3f}",
            f"{entry['sizeBytes'] / 1e6:.1f}", f"{entry['sparsity']:.2f}",
        )  # fmt: skip
    return made


def profiles(items: list[Object]) -> Table:
    """Compute p50 in milliseconds of a batch, per variant and batch size, at the longest measured length."""
    batches = sorted({row["batchSize"] for item in items for row in item["spec"]["rows"]})
    longest = max(row["sequenceLength"] for item in items for row in item["spec"]["rows"])
    made = table(f"Compute, p50 of a batch at {longest} tokens (ms, saturated)", "variant", *map(str, batches))
    for item in items:
        cells = {
            row["batchSize"]: 1000 * Histogram.model_validate(row["compute"]).quantile_seconds(0.5)
            for row in item["spec"]["rows"]
            if row["sequenceLength"] == longest and row["pace"] == "Saturated"
        }
        texts = [f"{cells[batch]:.1f}" if batch in cells else "-" for batch in batches]
        made.add_row(f"{item['spec']['variant']} on {item['spec']['hardwareClass']}", *texts)
    return made


def rejected(report: Object) -> Table:
    """One row per variant, class and reason, with the smallest batch size's numbers; report.json has them all."""
    made = table("Why the others lost", "candidate", "batch", "reason", "in numbers")
    for column in made.columns[1:]:
        column.justify = "left"
    groups: dict[tuple[str, str], list[Object]] = {}
    for entry in report["plan"]["rejected"]:
        groups.setdefault((f"{entry['variant']} on {entry['hardware']}", entry["reason"]), []).append(entry)
    for (candidate, reason), entries in groups.items():
        entries.sort(key=lambda entry: entry.get("batchSize") or 0)
        batches = ", ".join(str(entry["batchSize"]) for entry in entries if entry.get("batchSize"))
        made.add_row(candidate, batches, reason, entries[0]["message"])
    return made


def comparison(report: Object) -> Table:
    """Predicted beside measured T and terms, in milliseconds."""
    predicted, measured = report["plan"]["predicted"], report["measured"]
    made = table("Predicted and measured T (ms)", "term", "predicted", "measured", "measured / predicted")
    for name, key in COMPARED:
        ratio = f"{measured[key] / predicted[key]:.2f}" if predicted[key] > 0 else "-"
        made.add_row(name, f"{predicted[key]:.2f}", f"{measured[key]:.2f}", ratio)
    return made
