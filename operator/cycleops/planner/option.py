"""A candidate with batch, delay and replicas, and what that costs."""

from dataclasses import dataclass

from cycleops.planner.evaluate import Choice, Evaluator, Prepared
from cycleops.planner.outcomes import Sizing
from cycleops.planner.result import Plan, Prediction


@dataclass(frozen=True, kw_only=True)
class Option:
    """A candidate at its fewest replicas that hold the budget."""

    prepared: Prepared
    choice: Choice
    sizing: Sizing

    @property
    def cost_per_hour(self) -> float:
        return cost_of(self.prepared, self.choice.replicas)

    @property
    def rank(self) -> tuple[float, float, float, int, tuple[str, str]]:
        """Lower is better. The last parts only make the order total."""
        one, latency = self.prepared, self.sizing.sized_at_ms
        return self.cost_per_hour, one.lack_of_accuracy, latency, self.choice.batch_size, one.key

    def plan(self, evaluator: Evaluator) -> Plan:
        """``evaluator``: the one that found it."""
        return make_plan(self.prepared, self.choice, evaluator.predict(self.prepared, self.choice))


def cost_of(prepared: Prepared, replicas: int) -> float:
    """Rounded, so that equal costs are equal whatever binary fractions say."""
    return round(prepared.candidate.hardware.cost_per_hour * replicas, 9)


def make_plan(prepared: Prepared, choice: Choice, prediction: Prediction) -> Plan:
    variant, hardware = prepared.key
    return Plan(
        variant=variant,
        hardware=hardware,
        batch_size=choice.batch_size,
        delay_milliseconds=1000 * choice.delay_seconds,
        replicas=choice.replicas,
        cost_per_hour=cost_of(prepared, choice.replicas),
        accuracy=prepared.accuracy,
        predicted=prediction,
    )
