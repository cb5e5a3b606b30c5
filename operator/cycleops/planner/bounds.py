"""What is known of a choice without simulating it: load, the bound on the wait, T on an idle server."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from cycleops.planner import queueing
from cycleops.planner.choice import Choice, Fleet, Prepared
from cycleops.planner.memory import Memory, Tables
from cycleops.planner.model import Settings, Workload
from cycleops.planner.outcomes import Target, quantile, targets_of
from cycleops.planner.service_time import heaviness
from cycleops.planner.traffic import Draws

_MAXIMUM_REQUESTS = 100_000


@dataclass(kw_only=True)
class Bounds:
    """Of candidates under one workload. ``percentile`` is the budget's."""

    workload: Workload
    percentile: float
    settings: Settings
    seed: int
    memory: Memory = field(default_factory=Memory)
    count: int | None = None  # of requests; by the percentiles when it is not given
    draws: Draws = field(init=False)
    targets: tuple[Target, ...] = field(init=False)
    _waits: dict[tuple[tuple[str, str], int, int], float] = field(init=False, default_factory=dict)
    _known_tables: dict[tuple[str, str], Tables] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        # At least 60 requests beyond each percentile, as far as time allows.
        beyond = [(1.0, self.percentile), *((one.rate_share, one.percentile) for one in self.workload.classes)]
        wanted = max(math.ceil(60 / (1 - percentile / 100) / share) for share, percentile in beyond)
        enough = min(max(wanted, self.settings.requests), max(_MAXIMUM_REQUESTS, self.settings.requests))
        self.draws = self.memory.draws(
            self.workload,
            requests=enough if self.count is None else self.count,
            dispatchers=self.settings.dispatchers,
            seed=self.seed,
        )
        self.targets = targets_of(self.workload, self.percentile, self.draws.traffic)

    @property
    def miss_rate_per_second(self) -> float:
        return self.workload.rate_per_second * (1 - self.workload.cache_hit_ratio_lower)

    def fleet_load(self, fleet: Fleet) -> float:
        """The rate as a share of what these carry with full batches."""
        carried = sum(
            one.servers(choice.replicas) / self._turn_seconds(one, choice.batch_size) for one, choice in fleet
        )
        return self.miss_rate_per_second / carried

    def idle_milliseconds(self, prepared: Prepared, *, within: float = -math.inf) -> float:
        """T at the percentile on a server without other requests, by the better of paced and saturated: a lower bound.

        The first that is ``within`` so many milliseconds is enough.
        """
        tables, least = self.tables_of(prepared), math.inf
        for heavy in (0.0, 1.0):
            seconds = max(
                tables.idle_seconds(
                    one.percentile / 100, one.traffic, heavy=heavy, hit_ratio=self.workload.cache_hit_ratio_lower
                )
                / one.latency_share
                for one in self.targets
            )
            least = min(least, 1000 * seconds)
            if least <= within:
                break
        return least

    def stage_milliseconds(self, prepared: Prepared) -> tuple[float, float]:
        """Pre and post at the percentile, by the worse of paced and saturated: caps hold under load."""
        ratio, tables = self.workload.cache_hit_ratio_lower, self.tables_of(prepared)
        paths = [tables.path(heavy=heavy, hit_ratio=ratio) for heavy in (0.0, 1.0)]
        pre, post = ([getattr(path, term)[~path.hit] for path in paths] for term in ("pre", "post"))
        share = self.percentile / 100
        return 1000 * max(quantile(one, share) for one in pre), 1000 * max(quantile(one, share) for one in post)

    def batch_seconds(self, prepared: Prepared, batch_size: int) -> float:
        """Mean compute of a full batch, back to back."""
        return self.tables_of(prepared).batch_seconds(batch_size)

    def single_seconds(self, prepared: Prepared) -> float:
        """Mean compute of one request alone, on a lightly loaded server."""
        return self.tables_of(prepared).single_seconds()

    def load(self, prepared: Prepared, batch_size: int, replicas: int) -> float:
        """The rate as a share of what so many replicas carry with full batches."""
        return self.miss_rate_per_second * self._turn_seconds(prepared, batch_size) / prepared.servers(replicas)

    def _turn_seconds(self, prepared: Prepared, batch_size: int) -> float:
        """What one request of a full batch takes of its replica's time."""
        return self.tables_of(prepared).turn_seconds(self.batch_seconds(prepared, batch_size) / batch_size)

    def stable_replicas(self, prepared: Prepared, batch_size: int) -> int:
        servers = queueing.stable_replicas(
            rate_per_second=self.miss_rate_per_second,
            batch_seconds=self._turn_seconds(prepared, batch_size),
            batch_size=1,
            maximum_utilization=self.settings.maximum_utilization,
        )
        return math.ceil(servers / prepared.servers(1))

    def wait_bound_milliseconds(self, prepared: Prepared, *, batch_size: int, replicas: int) -> float:
        """Optimistic wait at the percentile of the misses that the percentile of all requests implies."""
        key = (prepared.key, batch_size, replicas)
        if key not in self._waits:
            self._waits[key] = max(self._wait_bound(prepared, batch_size, replicas, one) for one in self.targets)
        return self._waits[key]

    def _wait_bound(self, prepared: Prepared, batch_size: int, replicas: int, target: Target) -> float:
        percentile = queueing.percentile_of_misses(
            percentile=target.percentile, hit_ratio=self.workload.cache_hit_ratio_lower
        )
        seconds = queueing.wait_bound_seconds(
            rate_per_second=self.miss_rate_per_second,
            replicas=prepared.servers(replicas),
            batch_seconds=self.batch_seconds(prepared, batch_size),
            batch_size=batch_size,
            arrival_cv2=self.workload.least_cv2,
            percentile=percentile,
        )
        return 1000 * seconds / target.latency_share

    def busy_alone(self, choices: Sequence[tuple[Prepared, Choice]]) -> float:
        """Busy share of the fleet's compute threads if nothing were batched: batching only lowers it."""
        capacity = sum(
            prepared.servers(choice.replicas) / self.tables_of(prepared).turn_seconds(self.single_seconds(prepared))
            for prepared, choice in choices
        )
        return self.miss_rate_per_second / capacity

    def heaviness_of(self, choices: Sequence[tuple[Prepared, Choice]]) -> dict[tuple[str, str], float]:
        """By the busy share without batching. Under a CPU limit, the stalls of the saturated rows are the simulation's
        own doing, so the paced rows hold.
        """
        busy = heaviness(self.busy_alone(choices))
        limited = {prepared.key: prepared.candidate.hardware.cpu_limit_cores is not None for prepared, _ in choices}
        return {key: 0.0 if limit else busy for key, limit in limited.items()}

    def tables_of(self, prepared: Prepared) -> Tables:
        known = self._known_tables.get(prepared.key)
        if known is None or known.times is not prepared.times:
            overhead = self.settings.balancer_overhead_seconds
            known = self.memory.tables(prepared.times, prepared.candidate.hardware, self.draws, overhead)
            self._known_tables[prepared.key] = known
        return known
