"""What a classifier must beat whatever it classifies, the commonest label, and the metrics of classification."""

from collections import Counter
from collections.abc import Callable, Sequence

from sklearn.metrics import accuracy_score, f1_score

from cycle_trainer.data import Labelled
from cycle_trainer.failures import BadInputError
from cycle_wire.profile import MetricValue
from cycle_wire.reports import Baseline


def _accuracy(truth: Sequence[str], answers: Sequence[str]) -> float:
    return float(accuracy_score(truth, answers))


def _f1_macro(truth: Sequence[str], answers: Sequence[str]) -> float:
    """Mean over the labels that occur in either; a label that is never right counts 0."""
    return float(f1_score(truth, answers, average="macro", zero_division=0))


METRICS: dict[str, Callable[[Sequence[str], Sequence[str]], float]] = {"accuracy": _accuracy, "f1Macro": _f1_macro}


def majority(rows: Sequence[Labelled], evaluation: Sequence[Labelled], *, metrics: Sequence[str]) -> Baseline:
    """Always the commonest label; of equals the first in the alphabet. Raises BadInputError like ``measure``."""
    counts = Counter(row.label for row in rows)
    commonest = min(counts, key=lambda label: (-counts[label], label))
    return Baseline(
        name="majority",
        description="Always the most frequent class.",
        metrics=measure(metrics, evaluation, [commonest] * len(evaluation)),
    )


def measure(metrics: Sequence[str], evaluation: Sequence[Labelled], answers: Sequence[str]) -> list[MetricValue]:
    """Raises BadInputError for a metric that classification doesn't have."""
    unknown = sorted(set(metrics) - METRICS.keys())
    if unknown:
        message = f"no metric {', '.join(unknown)}; there are {', '.join(METRICS)}"
        raise BadInputError("UnknownMetric", message, field="spec.evaluation.metrics")
    truth = [row.label for row in evaluation]
    return [MetricValue(name=name, value=METRICS[name](truth, answers), rows=len(truth)) for name in metrics]
