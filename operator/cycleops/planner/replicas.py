"""How many replicas of one candidate: as few as hold, and no more than a rival's price pays for."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from cycleops.planner.choice import Able

# Cost per hour, lack of accuracy, milliseconds, and what makes the order total: lower is better.
Rank = tuple[float, float, float, int, tuple[str, str]]
FoundT = TypeVar("FoundT")


class Ranked(Protocol):
    """A candidate at a number of replicas that holds the budget."""

    @property
    def rank(self) -> Rank: ...


def cost_of(one: Able, replicas: int) -> float:
    """Rounded, so that equal costs are equal whatever binary fractions say."""
    return round(one.candidate.hardware.cost_per_hour * replicas, 9)


def affordable(one: Able, rival: Ranked | None, most: int) -> int:
    """Replicas, at most ``most``, that cost no more than the rival; or less, where it is the more accurate one."""
    if rival is None:
        return most
    limit, lack = rival.rank[:2]
    cost, must_be_cheaper = one.candidate.hardware.cost_per_hour, one.lack_of_accuracy > lack
    if cost == 0:
        return 0 if must_be_cheaper and limit == 0 else most
    replicas = int(limit / cost + 1e-6)
    if must_be_cheaper and cost_of(one, replicas) >= limit:
        replicas -= 1
    return min(most, replicas)


def fewest(hold: Callable[[int], FoundT | None], *, failed: int, holds: int, found: FoundT) -> FoundT:
    """Between what failed and what holds (as ``found``), by steps from below that double, then halve.

    More replicas never make T longer.
    """
    step = 1
    while holds - failed > 1:
        replicas = min(failed + step, (failed + holds) // 2)
        other = hold(replicas)
        if other is None:
            failed, step = replicas, 2 * step
        else:
            holds, found = replicas, other
    return found
