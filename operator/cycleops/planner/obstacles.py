"""What stands in the way of every candidate, from the reasons that each lost by."""

from collections.abc import Iterable

from cycleops.planner.result import Obstacle, Rejected, RejectReason

# Which obstacle a reason speaks of, from the last hurdle to the first: the candidate that came furthest decides.
_OBSTACLES = (
    ({RejectReason.RATE_ABOVE_CAPACITY, RejectReason.REPLICA_LIMIT}, Obstacle.CAPACITY),
    ({RejectReason.LATENCY_FLOOR}, Obstacle.LATENCY),
    ({RejectReason.STAGE_CAP}, Obstacle.STAGE),
    (
        {RejectReason.BELOW_ACCURACY_FLOOR, RejectReason.METRIC_MISSING, RejectReason.BASELINE_MISSING},
        Obstacle.ACCURACY,
    ),
    ({RejectReason.OUTSIDE_MEASURED_RANGE}, Obstacle.LENGTHS),
)


def obstacle_of(rejected: Iterable[Rejected]) -> Obstacle:
    reasons = {item.reason for item in rejected}
    return next((obstacle for some, obstacle in _OBSTACLES if some & reasons), Obstacle.NO_PROFILES)
