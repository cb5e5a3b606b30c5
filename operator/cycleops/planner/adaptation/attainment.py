"""What share of the requests is within the budget: by replicas, rate, and how much slower than profiled it computes.

Made once per plan by simulation (:mod:`cycleops.planner.adaptation.tabulate`), so that adapting looks numbers up and
needs no simulation in the loop. When every time grows by a factor s, a system with budget L at rate r is the profiled
one with budget L / s at rate r x s, only slower to watch: one table therefore answers for every slowness.
"""

from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Attainment:
    """``share[i][load][budget]`` is 0 to 1; ``compute_seconds[i][load]`` the mean of a request; both of ``sizes[i]``.

    ``sizes`` are numbers of replicas and rise from 1; between two of them the smaller one's row counts, as more
    replicas at the same load never do worse. A load is the rate over what the replicas carry at most with full
    batches, ``capacity_per_second`` each. Loads and ``budgets`` (as factors of the plan's budget) rise. Above the last
    load nothing is promised: the share is 0.
    """

    capacity_per_second: float
    sizes: tuple[int, ...]
    loads: tuple[float, ...]
    budgets: tuple[float, ...]
    share: tuple[tuple[tuple[float, ...], ...], ...]
    compute_seconds: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not self.capacity_per_second > 0 or not self.share:
            raise ValueError("capacity_per_second must be above 0 and share must have at least one replica")
        if self.sizes[0] != 1 or not len(self.sizes) == len(self.share) == len(self.compute_seconds):
            raise ValueError("sizes must begin with 1, with one row of share and compute_seconds for each")

    @property
    def maximum_replicas(self) -> int:
        return self.sizes[-1]

    def share_within(self, *, replicas: int, rate_per_second: float, slowness: float = 1.0) -> float:
        """Expected share within the budget in steady state at this rate."""
        load = rate_per_second * slowness / (replicas * self.capacity_per_second)
        if load >= self.loads[-1]:
            return 0.0
        by_load = self.share[self._row(replicas)]
        column, across = _between(self.budgets, 1 / slowness)
        row, along = _between(self.loads, load)
        low = _mix(by_load[row][column], by_load[row][column + 1], across)
        high = _mix(by_load[row + 1][column], by_load[row + 1][column + 1], across)
        return _mix(low, high, along)

    def expected_compute_seconds(self, *, replicas: int, rate_per_second: float, slowness: float = 1.0) -> float:
        """Mean compute that a request sees (that of its whole batch), at this rate and slowness."""
        load = rate_per_second * slowness / (replicas * self.capacity_per_second)
        row, along = _between(self.loads, min(load, self.loads[-1]))
        by_load = self.compute_seconds[self._row(replicas)]
        return slowness * _mix(by_load[row], by_load[row + 1], along)

    def replicas_for(self, *, rate_per_second: float, goal: float, slowness: float = 1.0) -> int | None:
        """Fewest replicas with at least this share within the budget; None when the most do not suffice."""
        for replicas in range(1, self.maximum_replicas + 1):
            within = self.share_within(replicas=replicas, rate_per_second=rate_per_second, slowness=slowness)
            if within >= goal:
                return replicas
        return None

    def _row(self, replicas: int) -> int:
        return bisect_right(self.sizes, replicas) - 1


def _between(grid: tuple[float, ...], value: float) -> tuple[int, float]:
    """The cell of a rising grid and how far into it; the nearest edge outside."""
    index = min(max(bisect_right(grid, value) - 1, 0), len(grid) - 2)
    share = (value - grid[index]) / (grid[index + 1] - grid[index])
    return index, min(max(share, 0.0), 1.0)


def _mix(low: float, high: float, share: float) -> float:
    return low + share * (high - low)
