"""Our plan beside three simpler rules on 200 random instances, judged by an independent, longer simulation.

    python -m bench.planner --rules

How often each rule's plan breaks the budget, and what it costs beside ours where it holds. The rules are in
``simple.py``, the instances in ``instances.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean

from bench.planner.instances import Instance, instances
from bench.planner.simple import RULES, Pick
from cycleops.planner import Planner, Settings
from cycleops.planner.choice import Choice, Prepared
from cycleops.planner.evaluate import Evaluator
from cycleops.planner.simulate import Outcome
from cycleops.planner.simulation import intervals

INSTANCES = 200
REQUESTS = 200_000  # ten times what a plan is made with, from other random numbers
JUDGE_SEED = 1_000_000
OURS = "cycleops"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """``latency_ms``: at the percentile, in the judge's simulation."""

    cost_per_hour: float
    latency_ms: float
    budget_ms: float

    @property
    def holds(self) -> bool:
        return self.latency_ms <= self.budget_ms


@dataclass(frozen=True, kw_only=True)
class Row:
    """Of one rule. ``cheaper``: instances on which it holds and costs less than ours."""

    rule: str
    plans: int
    breaks: int
    worst_over_budget: float
    mean_cost_ratio_where_it_holds: float
    cheaper: int


def judge(instance: Instance, pick: Pick, number: int) -> Judged:
    candidate = next(
        one for one in instance.candidates if (one.profile.variant, one.hardware.name) == (pick.variant, pick.hardware)
    )
    evaluator = Evaluator(
        workload=instance.workload,
        percentile=instance.budget.percentile,
        algorithm=instance.algorithm,
        settings=Settings(),
        seed=JUDGE_SEED + number,
        count=REQUESTS,
    )
    prepared = Prepared(candidate=candidate, times=evaluator.memory.times(candidate.profile), accuracy=None)
    choice = Choice(batch_size=pick.batch_size, delay_seconds=pick.delay_seconds, replicas=pick.replicas)
    outcome = evaluator.simulated(evaluator.groups([(prepared, choice)]))
    assert isinstance(outcome, Outcome)
    value = float(intervals.quantiles(outcome.total, instance.budget.percentile / 100)[0])
    return Judged(
        cost_per_hour=candidate.hardware.cost_per_hour * pick.replicas,
        latency_ms=1000 * value,
        budget_ms=instance.budget.latency_milliseconds,
    )


def ours(instance: Instance) -> Pick | None:
    found = (
        Planner()
        .plan(
            workload=instance.workload,
            budget=instance.budget,
            candidates=instance.candidates,
            limits=instance.limits,
            algorithm=instance.algorithm,
        )
        .plan
    )
    if found is None:
        return None
    return Pick(
        variant=found.variant,
        hardware=found.hardware,
        batch_size=found.batch_size,
        delay_seconds=found.delay_milliseconds / 1000,
        replicas=found.replicas,
    )


def compare(count: int = INSTANCES) -> list[dict[str, Judged]]:
    """Of each instance for which we have a plan, every rule's plan as judged."""
    results: list[dict[str, Judged]] = []
    for number, instance in enumerate(instances()):
        own = ours(instance)
        if own is None:
            continue
        picks = {OURS: own, **{name: rule(instance) for name, rule in RULES.items()}}
        results.append({name: judge(instance, pick, number) for name, pick in picks.items() if pick is not None})
        if len(results) == count:
            break
    return results


def rows(results: list[dict[str, Judged]]) -> list[Row]:
    return [_row(name, results) for name in (OURS, *RULES)]


def _row(name: str, results: Sequence[Mapping[str, Judged]]) -> Row:
    pairs = [(result[name], result[OURS]) for result in results if name in result]
    held = [(one, own) for one, own in pairs if one.holds]
    return Row(
        rule=name,
        plans=len(pairs),
        breaks=len(pairs) - len(held),
        worst_over_budget=max((one.latency_ms / one.budget_ms for one, _ in pairs), default=0.0),
        mean_cost_ratio_where_it_holds=mean(one.cost_per_hour / own.cost_per_hour for one, own in held),
        cheaper=sum(one.cost_per_hour < own.cost_per_hour - 1e-9 for one, own in held),
    )


def show(results: list[dict[str, Judged]]) -> None:
    print(f"{len(results)} instances, judged with {REQUESTS:,} requests of another seed")
    print(f"{'rule':44}{'plans':>7}{'breaks':>8}{'worst':>8}{'cost/ours':>11}{'cheaper':>9}")
    for row in rows(results):
        print(
            f"{row.rule:44}{row.plans:7}{row.breaks / row.plans:8.1%}{row.worst_over_budget:8.2f}"
            f"{row.mean_cost_ratio_where_it_holds:11.2f}{row.cheaper:9}"
        )


def to_dict(results: list[dict[str, Judged]]) -> dict[str, object]:
    return {"instances": len(results), "requests": REQUESTS, "rows": [asdict(row) for row in rows(results)]}
