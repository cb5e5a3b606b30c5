"""The integer program of a mix: how many replicas of each class carry a rate at the least cost. Solved by HiGHS.

    minimise   sum c_h n_h                       n_h: replicas of class h, c_h: cost of one
    subject to sum q_h n_h >= demand             q_h: requests/s that one carries at most
               n_h <= m_h,  low <= sum n_h <= high
               at least two n_h above 0
               for each refused vector r: n_h > r_h for some h

The last is a cut: a vector that was simulated and failed is left out, with all that have no more of anything. Those are
no dearer, so when vectors come in the order of their cost they have been refused before.

Source of the form: InferLine (SoCC 2020) and INFaaS (ATC 2021) choose hardware and replicas by such programs; the cuts
are combinatorial Benders cuts (G. Codato, M. Fischetti, Operations Research 54, 2006).
"""

from collections.abc import Sequence
from dataclasses import dataclass

Vector = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Classes:
    """One entry per class of hardware. ``maximum``: replicas of it; ``low`` to ``high``: of all together."""

    costs: tuple[float, ...]
    capacities: tuple[float, ...]
    maximum: Vector
    low: int
    high: int


def cheapest(classes: Classes, *, demand: float, below_cost: float, refused: Sequence[Vector] = ()) -> Vector | None:
    """Replicas of each class; None when there are none that cost less than ``below_cost``."""
    import highspy  # a shared library of some megabytes, for mixes only

    solver = highspy.Highs()
    solver.silent()
    for option, value in (("threads", 1), ("mip_rel_gap", 0.0), ("mip_abs_gap", 0.0)):
        solver.setOptionValue(option, value)
    every = range(len(classes.costs))
    count = [solver.addIntegral(0, classes.maximum[h], classes.costs[h]) for h in every]
    used = [solver.addBinary() for _ in every]
    for h in every:
        solver.addConstr(count[h] <= classes.maximum[h] * used[h])
        solver.addConstr(count[h] >= used[h])
    solver.addConstr(solver.qsum(used) >= 2)
    solver.addConstr(solver.qsum(count) <= classes.high)
    solver.addConstr(solver.qsum(count) >= classes.low)
    # Scaled to 1, since HiGHS's tolerances are absolute.
    solver.addConstr(solver.qsum(classes.capacities[h] / demand * count[h] for h in every) >= 1.0)
    if below_cost < float("inf"):
        limit = below_cost * (1 - 1e-6)
        solver.addConstr(solver.qsum(classes.costs[h] * count[h] for h in every) <= limit)
    for vector in refused:
        more = [solver.addBinary() for _ in every]
        for h in every:
            solver.addConstr(count[h] >= (vector[h] + 1) * more[h])
        solver.addConstr(solver.qsum(more) >= 1)
    solver.minimize()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    return tuple(round(solver.val(variable)) for variable in count)
