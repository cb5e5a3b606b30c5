"""Our policy in the bench: nothing but :func:`cycleops.planner.adaptation.adapt`, fed with what was measured."""

from dataclasses import dataclass, field

from bench.planner.peers import Seen
from bench.planner.service import MAXIMUM_REPLICAS, PERCENTILE, STARTUP_SECONDS, attainment
from bench.planner.traces import DECLARED
from cycleops.planner.adaptation import AdaptSettings, Attainment, Decision, Measurement, State, Target, adapt

TARGET = Target(
    percentile=PERCENTILE,
    minimum_replicas=1,
    maximum_replicas=MAXIMUM_REPLICAS,
    startup_seconds=STARTUP_SECONDS,
    declared_per_second=DECLARED,
)


@dataclass(kw_only=True)
class Ours:
    initial: int
    settings: AdaptSettings = field(default_factory=AdaptSettings)
    table: Attainment = field(default_factory=attainment)
    state: State = field(init=False)
    decision: Decision | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.state = State(replicas=self.initial)

    def decide(self, seen: Seen) -> int:
        window = seen.window
        measurement = Measurement(
            ended_at=seen.now,
            window_seconds=seen.seconds,
            arrivals=window.arrivals,
            answered=window.answered,
            late=window.answered - window.within,
            refused=window.shed,
            compute_seconds=window.compute_seconds / window.started if window.started else None,
            ready_replicas=seen.ready,
        )
        self.state, self.decision = adapt(
            self.state, measurement, seen.now, attainment=self.table, target=TARGET, settings=self.settings
        )
        return self.decision.replicas
