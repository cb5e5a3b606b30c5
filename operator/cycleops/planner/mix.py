"""Replicas of several classes behind one balancer: when one class is not enough, or a mix is cheaper.

Integer programs (integer.py) propose replicas by their cost, the simulation of the whole fleet decides. All groups
serve the same variant: answers must not depend on which replica gave them.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cycleops.planner.choice import Choice, Fleet, Prepared
from cycleops.planner.evaluate import Evaluator
from cycleops.planner.integer import Classes, Vector, cheapest
from cycleops.planner.option import Option, plan_of_fleet
from cycleops.planner.outcomes import Sizing
from cycleops.planner.prepare import Problem, batch_sizes
from cycleops.planner.replicas import cost_of
from cycleops.planner.result import Plan
from cycleops.planner.search import Solution, screen, solve

# Fleets that are simulated for one question, and the share of them that looks for any mix at all.
TRIES = 120
# Vectors that are refused before the search for the cheapest of a variant ends; the program grows with each.
MOST_REFUSED = 32
FIRST_TRIES = 12
DEMAND_STEP = 1.15  # what the program is asked to carry grows by so much until a fleet holds
BATCHES = 2  # maximum batches that are tried per class, those of the highest capacity


@dataclass(frozen=True, kw_only=True)
class Mix:
    """A fleet of several classes that holds the budget. ``proven``: every cheaper mix of its variant was refused."""

    fleet: Fleet
    sizing: Sizing
    proven: bool

    @property
    def cost_per_hour(self) -> float:
        return cost_of_fleet(self.fleet)

    @property
    def rank(self) -> tuple[float, float, float, int, tuple[str, str]]:
        """As that of an Option. The least accurate group counts."""
        lack = max(one.lack_of_accuracy for one, _ in self.fleet)
        return self.cost_per_hour, lack, self.sizing.sized_at_ms, 0, self.fleet[0][0].key

    @property
    def replicas(self) -> int:
        return sum(choice.replicas for _, choice in self.fleet)

    @property
    def hardware(self) -> str:
        return " and ".join(one.candidate.hardware.name for one, _ in self.fleet)

    @property
    def longest_measured(self) -> int:
        return min(one.times.lengths[-1] for one, _ in self.fleet)

    def plan(self, evaluator: Evaluator) -> Plan:
        """``evaluator``: the one that found it."""
        return plan_of_fleet(self.fleet, evaluator.predict_fleet(self.fleet))


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What was looked through: ``simulated`` fleets of ``variants``; ``mix``: the best that is cheaper, if any."""

    mix: Mix | None
    simulated: int
    variants: int


def cost_of_fleet(fleet: Fleet) -> float:
    return round(sum(cost_of(one, choice.replicas) for one, choice in fleet), 9)


def find(problem: Problem, evaluator: Evaluator, *, tries: int = TRIES) -> Option | Mix | None:
    """The best plan of one class, or a cheaper mix where those are allowed."""
    solution = solve(problem, evaluator)
    return look(problem, evaluator, solution, tries=tries).mix or solution.option


def look(problem: Problem, evaluator: Evaluator, solution: Solution, *, tries: int = TRIES) -> Looked:
    """For mixes that cost less than what was found of one class. Without leave for mixes nothing is looked for."""
    pinned = problem.pinned
    if not problem.limits.mixes or pinned.hardware is not None or pinned.replicas is not None:
        return Looked(mix=None, simulated=0, variants=0)
    below = math.inf if solution.option is None else solution.option.cost_per_hour
    search = _Search(problem=problem, evaluator=evaluator, tries=tries)
    best: Mix | None = None
    variants = _by_variant(problem, evaluator, solution.prepared)
    bounds = {name: search.bound(members) for name, members in variants.items()}
    for name in sorted(variants, key=lambda name: (bounds[name], variants[name][0].lack_of_accuracy, name)):
        found = search.cheapest(variants[name], below if best is None else best.cost_per_hour)
        if found is not None:
            best = found
    return Looked(mix=best, simulated=tries - search.tries, variants=len(variants))


def _by_variant(
    problem: Problem, evaluator: Evaluator, prepared: Sequence[Prepared]
) -> dict[str, tuple[Prepared, ...]]:
    """Variants that may serve on two classes or more. Pods that share cores are not simulated beside others."""
    apart = [one for one in prepared if one.candidate.hardware.pods_per_core is None]
    fit = [one for one in apart if screen(problem, evaluator, one) is None]
    grouped = itertools.groupby(sorted(fit, key=lambda one: one.key), key=lambda one: one.key[0])
    return {name: members for name, group in grouped if len(members := tuple(group)) > 1}


@dataclass(kw_only=True)
class _Search:
    """``tries``: fleets that may still be simulated."""

    problem: Problem
    evaluator: Evaluator
    tries: int

    def bound(self, members: Sequence[Prepared]) -> float:
        """No mix of them costs less: the rate by the cheapest request/s of them."""
        rates = zip(members, self._capacities(members), strict=True)
        price = min(one.candidate.hardware.cost_per_hour / capacity for one, capacity in rates)
        return price * self.evaluator.miss_rate_per_second

    def cheapest(self, members: Sequence[Prepared], below: float) -> Mix | None:
        """The cheapest mix of these that costs less than ``below``.

        First any that holds, by asking the program for more than the rate; then all that are cheaper, in the order of
        their cost: the first of those that holds is the cheapest there is.
        """
        if not self.bound(members) < below:
            return None
        classes, demand = self._classes(members), self.evaluator.miss_rate_per_second
        held = self._any(classes, members, demand, below)
        limit, refused = (below if held is None else held.cost_per_hour), list[Vector]()
        while self.tries > 0 and len(refused) < MOST_REFUSED:
            vector = cheapest(classes, demand=demand, below_cost=limit, refused=refused)
            if vector is None:
                return held and Mix(fleet=held.fleet, sizing=held.sizing, proven=True)
            found = self._verified(members, vector)
            if found is not None:
                return Mix(fleet=found.fleet, sizing=found.sizing, proven=True)
            refused.append(vector)
        return held

    def _any(self, classes: Classes, members: Sequence[Prepared], rate: float, below: float) -> Mix | None:
        demand = rate
        for _ in range(FIRST_TRIES):
            vector = cheapest(classes, demand=demand, below_cost=below)
            if vector is None or self.tries <= 0:
                return None
            found = self._verified(members, vector)
            if found is not None:
                return found
            demand *= DEMAND_STEP
        return None

    def _classes(self, members: Sequence[Prepared]) -> Classes:
        limits, zones = self.problem.limits, self.problem.limits.headroom.zones
        lost = 1 / zones if zones else 0.0  # of each group, at least
        return Classes(
            costs=tuple(one.candidate.hardware.cost_per_hour for one in members),
            capacities=tuple((1 - lost) * capacity for capacity in self._capacities(members)),
            maximum=tuple(self.problem.replica_bounds(one.candidate)[1] for one in members),
            low=limits.minimum_replicas,
            high=limits.maximum_replicas,
        )

    def _capacities(self, members: Sequence[Prepared]) -> list[float]:
        """Requests/s that one replica carries at the highest load that is planned."""
        most = self.problem.settings.maximum_utilization
        return [most * max(self._rate(one, size) for size in self._batches(one)) for one in members]

    def _rate(self, one: Prepared, size: int) -> float:
        return size / self.evaluator.batch_seconds(one, size)

    def _batches(self, one: Prepared) -> list[int]:
        """Those of the highest capacity."""
        sizes = sorted(batch_sizes(self.problem, one), key=lambda size: self._rate(one, size), reverse=True)
        return sizes[:BATCHES]

    def _verified(self, members: Sequence[Prepared], vector: Vector) -> Mix | None:
        """The first maximum batches with which it holds, also after every loss that is asked for."""
        used = [(one, count) for one, count in zip(members, vector, strict=True) if count]
        for sizes in itertools.product(*(self._batches(one) for one, _ in used)):
            fleet = tuple(
                (one, Choice(batch_size=size, delay_seconds=0.0, replicas=count))
                for (one, count), size in zip(used, sizes, strict=True)
            )
            sizing = self._held(fleet)
            if sizing is not None:
                return Mix(fleet=fleet, sizing=sizing, proven=False)
        return None

    def _held(self, fleet: Fleet) -> Sizing | None:
        """Of the whole fleet, if it holds and what each loss leaves does."""
        latency, sizing = self.problem.budget.latency_milliseconds, None
        for left in self._after_losses(fleet):
            if not left or self.evaluator.fleet_load(left) > self.problem.settings.maximum_utilization:
                return None
            self.tries -= 1
            sizing = self.evaluator.fleet_within(left, latency_milliseconds=latency)
            if sizing is None:
                return None
        return sizing

    def _after_losses(self, fleet: Fleet) -> Iterator[Fleet]:
        """What may be left, then the whole fleet."""
        counts = tuple(choice.replicas for _, choice in fleet)
        for left in (*self.problem.limits.headroom.remainders(counts), counts):
            yield tuple(
                (one, Choice(batch_size=choice.batch_size, delay_seconds=choice.delay_seconds, replicas=count))
                for (one, choice), count in zip(fleet, left, strict=True)
                if count
            )


def of_mix(looked: Looked, alone: Option | None) -> list[str]:
    """What was looked through for a mix, and what it saves."""
    if not looked.variants:
        return []
    what = f"{looked.simulated} fleets of {looked.variants} variants were simulated"
    if looked.mix is None:
        return [f"No mix of classes is cheaper: {what}."]
    price = "no class alone suffices" if alone is None else f"one class alone costs {alone.cost_per_hour:g} per hour"
    how = "none that is cheaper holds the budget" if looked.mix.proven else "a cheaper one may have been missed"
    return [f"A mix of classes, since {price}; {what}, and {how}."]
