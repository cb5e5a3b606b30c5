"""An attainment table without simulation: a replica carries 20 requests/s, and the tail starts at 60 % of that."""

from cycleops.planner.adaptation import AdaptSettings, Attainment, Measurement, State, Target

LOADS = (0.0, 0.6, 0.8, 1.0)
BUDGETS = (0.25, 0.5, 1.0, 2.0, 4.0)
_BY_LOAD = (1.0, 0.999, 0.99, 0.5)


def table(*, maximum_replicas: int = 10) -> Attainment:
    """At the plan's budget 99 % are within it up to a load of 0.8; half the budget costs a tenth of them."""
    factor = (0.5, 0.9, 1.0, 1.0, 1.0)
    share = tuple(tuple(by_load * f for f in factor) for by_load in _BY_LOAD)
    return Attainment(
        capacity_per_second=20.0,
        sizes=tuple(range(1, maximum_replicas + 1)),
        loads=LOADS,
        budgets=BUDGETS,
        share=(share,) * maximum_replicas,
        compute_seconds=((0.04, 0.05, 0.06, 0.08),) * maximum_replicas,
    )


TARGET = Target(
    percentile=99.0, minimum_replicas=1, maximum_replicas=10, startup_seconds=30.0, declared_per_second=150.0
)
SETTINGS = AdaptSettings()


def window(
    *, ended_at: float, rate: float, ready: int, late: int = 0, slowness: float = 1.0, seconds: float = 15.0
) -> Measurement:
    """Computes as the table expects, times ``slowness``."""
    arrivals = round(rate * seconds)
    expected = table().expected_compute_seconds(replicas=max(ready, 1), rate_per_second=rate, slowness=slowness)
    return Measurement(
        ended_at=ended_at,
        window_seconds=seconds,
        arrivals=arrivals,
        answered=arrivals,
        late=late,
        compute_seconds=expected if arrivals else None,
        ready_replicas=ready,
    )


def begin(replicas: int) -> State:
    return State(replicas=replicas)
