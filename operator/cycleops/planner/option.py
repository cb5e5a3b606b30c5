"""A candidate with batch, delay and replicas, and what that costs."""

from dataclasses import dataclass

from cycleops.planner.evaluate import Choice, Prepared
from cycleops.planner.result import Plan, Prediction


@dataclass(frozen=True, kw_only=True)
class Option:
    """A candidate at its fewest replicas that hold the budget."""

    prepared: Prepared
    choice: Choice
    prediction: Prediction

    @property
    def cost_per_hour(self) -> float:
        return cost_of(self.prepared, self.choice.replicas)

    @property
    def rank(self) -> tuple[float, float, float, int, tuple[str, str]]:
        """Lower is better. The last parts only make the order total."""
        accuracy = -1.0 if self.prepared.accuracy is None else self.prepared.accuracy
        return self.cost_per_hour, -accuracy, self.prediction.sized_at_ms, self.choice.batch_size, self.prepared.key

    def plan(self) -> Plan:
        return make_plan(self.prepared, self.choice, self.prediction)


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
