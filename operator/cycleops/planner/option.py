"""A candidate with batch, delay and replicas, and what that costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from cycleops.planner.choice import Able, Choice, Fleet, Prepared
from cycleops.planner.evaluate import Evaluator
from cycleops.planner.outcomes import Sizing
from cycleops.planner.replicas import Rank, cost_of
from cycleops.planner.result import Plan, PlanGroup, Prediction


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
    def rank(self) -> Rank:
        """Lower is better. The last parts only make the order total."""
        one, latency = self.prepared, self.sizing.sized_at_ms
        return self.cost_per_hour, one.lack_of_accuracy, latency, self.choice.batch_size, one.key

    @property
    def replicas(self) -> int:
        return self.choice.replicas

    @property
    def hardware(self) -> str:
        return self.prepared.candidate.hardware.name

    @property
    def longest_measured(self) -> int:
        """Tokens."""
        return self.prepared.times.lengths[-1]

    def plan(self, evaluator: Evaluator) -> Plan:
        """``evaluator``: the one that found it."""
        return make_plan(self.prepared, self.choice, evaluator.predict(self.prepared, self.choice))


def make_plan(prepared: Prepared, choice: Choice, prediction: Prediction) -> Plan:
    return plan_of_fleet(((prepared, choice),), prediction)


def plan_of_fleet(fleet: Fleet, prediction: Prediction) -> Plan:
    groups = tuple(
        PlanGroup(
            hardware=one.key[1],
            batch_size=choice.batch_size,
            delay_milliseconds=1000 * choice.delay_seconds,
            replicas=choice.replicas,
            cost_per_hour=cost_of(one, choice.replicas),
        )
        for one, choice in fleet
    )
    return plan_of_groups([one for one, _ in fleet], groups, prediction)


def plan_of_groups(serving: Sequence[Able], groups: tuple[PlanGroup, ...], prediction: Prediction) -> Plan:
    """``serving``: of one variant, one for each group."""
    accuracies = [one.accuracy for one in serving if one.accuracy is not None]
    return Plan(
        variant=serving[0].key[0],
        hardware=" + ".join(group.hardware for group in groups),
        batch_size=max(group.batch_size for group in groups),
        delay_milliseconds=max(group.delay_milliseconds for group in groups),
        replicas=sum(group.replicas for group in groups),
        cost_per_hour=round(sum(group.cost_per_hour for group in groups), 9),
        accuracy=min(accuracies, default=None),
        groups=groups,
        predicted=prediction,
    )
