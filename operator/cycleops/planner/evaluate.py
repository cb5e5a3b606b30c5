"""What the search asks: how does this candidate do with this batch, delay and number of replicas? Answers are kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cycleops.planner import queueing
from cycleops.planner.memory import Kept, Memory, Tables
from cycleops.planner.model import Algorithm, Candidate, Settings, Workload
from cycleops.planner.outcomes import Sizing, Target, prediction_of, quantile, sizing_of, targets_of
from cycleops.planner.result import Prediction
from cycleops.planner.service_time import ServiceTimes, heaviness
from cycleops.planner.simulate import WARM_UP_SHARE, Balancing, GivenUp, Group, Outcome, Path, simulate_fleet
from cycleops.planner.simulation.rules import Patience
from cycleops.planner.traffic import Draws

Array = NDArray[np.float64]
_MAXIMUM_REQUESTS = 100_000
_OUTCOMES = 16  # some 1 MB each


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A candidate whose profile can be planned from, and whose accuracy is known to be high enough."""

    candidate: Candidate
    times: ServiceTimes
    accuracy: float | None

    @cached_property
    def key(self) -> tuple[str, str]:
        return self.candidate.profile.variant, self.candidate.hardware.name

    @property
    def lack_of_accuracy(self) -> float:
        """Lower is better."""
        return 1.0 if self.accuracy is None else -self.accuracy


@dataclass(frozen=True, kw_only=True)
class Choice:
    batch_size: int
    delay_seconds: float
    replicas: int


# What is known is kept by candidate, delay and replicas, and there by maximum batch.
_Place = tuple[tuple[str, str], float, int]


@dataclass(frozen=True, kw_only=True)
class _Broken:
    """A budget that a choice was seen to break before its simulation's end."""

    latency_milliseconds: float
    largest_batch: int


@dataclass(kw_only=True)
class Evaluator:
    """Simulates candidates under one workload; the same question is answered once. ``percentile`` is the budget's."""

    workload: Workload
    percentile: float
    algorithm: Algorithm
    settings: Settings
    seed: int
    memory: Memory = field(default_factory=Memory)
    draws: Draws = field(init=False)
    targets: tuple[Target, ...] = field(init=False)
    _arrival: Array = field(init=False)
    _warm_up: int = field(init=False)
    _kept: dict[_Place, dict[int, Sizing]] = field(init=False, default_factory=dict)
    _broken: dict[_Place, dict[int, _Broken]] = field(init=False, default_factory=dict)
    _held: Kept[Outcome] = field(init=False, default_factory=lambda: Kept(_OUTCOMES))
    _late_after: Kept[Array] = field(init=False, default_factory=lambda: Kept(_OUTCOMES))
    _waits: dict[tuple[tuple[str, str], int, int], float] = field(init=False, default_factory=dict)
    _known_tables: dict[tuple[str, str], Tables] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        # At least 60 requests beyond each percentile, as far as time allows.
        beyond = [(1.0, self.percentile), *((one.rate_share, one.percentile) for one in self.workload.classes)]
        wanted = max(math.ceil(60 / (1 - percentile / 100) / share) for share, percentile in beyond)
        self.draws = self.memory.draws(
            self.workload,
            requests=min(max(wanted, self.settings.requests), max(_MAXIMUM_REQUESTS, self.settings.requests)),
            dispatchers=self.settings.dispatchers,
            seed=self.seed,
        )
        self.targets = targets_of(self.workload, self.percentile, self.draws.traffic)
        self._arrival = np.cumsum(self.draws.gaps) / self.workload.rate_per_second
        self._warm_up = math.ceil(WARM_UP_SHARE * self.draws.count)

    @property
    def miss_rate_per_second(self) -> float:
        return self.workload.rate_per_second * (1 - self.workload.cache_hit_ratio_lower)

    @property
    def evaluations(self) -> dict[tuple[tuple[str, str], Choice], Sizing]:
        """What was simulated to the end."""
        return {
            (key, Choice(batch_size=size, delay_seconds=delay, replicas=replicas)): sizing
            for (key, delay, replicas), by_size in self._kept.items()
            for size, sizing in by_size.items()
        }

    def known(self, prepared: Prepared, choice: Choice) -> Sizing | None:
        """If it was simulated to the end, or a smaller maximum batch was that no batch reached."""
        by_size = self._kept.get(_place(prepared, choice), {})
        if choice.batch_size not in by_size:
            for size, sizing in by_size.items():
                if sizing.largest_batch < size < choice.batch_size:
                    by_size[choice.batch_size] = sizing
                    break
        return by_size.get(choice.batch_size)

    def size(self, prepared: Prepared, choice: Choice) -> Sizing:
        """With the hits that there is evidence for: what replicas are counted by."""
        sizing = self.known(prepared, choice)
        if sizing is None:
            outcome = self._simulate(prepared, choice, self.workload.cache_hit_ratio_lower)
            sizing = self._keep(prepared, choice, outcome)
        return sizing

    def _keep(self, prepared: Prepared, choice: Choice, outcome: Outcome) -> Sizing:
        sizing = sizing_of(outcome, percentile=self.percentile, targets=self.targets)
        self._kept.setdefault(_place(prepared, choice), {})[choice.batch_size] = sizing
        return sizing

    def within(self, prepared: Prepared, choice: Choice, *, latency_milliseconds: float) -> Sizing | None:
        """As :meth:`size` where it is within the latency; None where it is not.

        A simulation that has more late requests than the percentile allows is given up: those to come can't mend it.
        """
        sizing = self.known(prepared, choice)
        if sizing is None:
            if self.broken(prepared, choice, latency_milliseconds):
                return None
            outcome = self.tried(self.groups([(prepared, choice)]), latency_milliseconds=latency_milliseconds)
            if isinstance(outcome, GivenUp):
                broken = _Broken(latency_milliseconds=latency_milliseconds, largest_batch=outcome.largest_batch)
                self._broken.setdefault(_place(prepared, choice), {})[choice.batch_size] = broken
                return None
            self._held.get((prepared.key, choice, self.workload.cache_hit_ratio_lower), lambda: outcome)
            sizing = self._keep(prepared, choice, outcome)
        return sizing if sizing.sized_at_ms <= latency_milliseconds else None

    def broken(self, prepared: Prepared, choice: Choice, latency_milliseconds: float) -> bool:
        """Itself, or a smaller maximum batch that no batch reached until it was given up."""
        return any(
            known.latency_milliseconds >= latency_milliseconds
            and (size == choice.batch_size or known.largest_batch < size < choice.batch_size)
            for size, known in self._broken.get(_place(prepared, choice), {}).items()
        )

    def predict(self, prepared: Prepared, choice: Choice) -> Prediction:
        """With the hits that were measured: what will be seen. It is held against the budget as :meth:`size` is."""
        sized, workload = self.size(prepared, choice), self.workload
        seen = self._predicted(prepared, choice, workload.expected_hit_ratio)
        if workload.expected_hit_ratio == workload.cache_hit_ratio_lower:
            return seen
        cold = self._predicted(prepared, choice, workload.cache_hit_ratio_lower)
        # The hit ratio may be as low as its bound.
        return replace(
            seen, sized_at_ms=max(seen.sized_at_ms, sized.sized_at_ms), high_ms=max(seen.high_ms, cold.high_ms)
        )

    def _predicted(self, prepared: Prepared, choice: Choice, hit_ratio: float) -> Prediction:
        return prediction_of(
            self._simulate(prepared, choice, hit_ratio),
            percentile=self.percentile,
            targets=self.targets,
            residual=prepared.times.residual,
            load=self.load(prepared, choice.batch_size, choice.replicas),
            hit_ratio=hit_ratio,
            extrapolated_share=float((self.draws.tokens > prepared.times.lengths[-1] + 0.5).mean()),
        )

    def _simulate(self, prepared: Prepared, choice: Choice, hit_ratio: float) -> Outcome:
        def run() -> Outcome:
            outcome = self.simulated(self.groups([(prepared, choice)], hit_ratio))
            assert isinstance(outcome, Outcome)  # without patience it runs to its end
            return outcome

        return self._held.get((prepared.key, choice, hit_ratio), run)

    def groups(
        self, choices: Sequence[tuple[Prepared, Choice]], hit_ratio: float | None = None
    ) -> list[tuple[Group, Path]]:
        """A fleet of these, with the hits that there is evidence for if no others are given."""
        ratio = self.workload.cache_hit_ratio_lower if hit_ratio is None else hit_ratio
        made, heavy = [], self._heaviness(choices)
        for prepared, choice in choices:
            station, path = self._tables(prepared).station(heavy=heavy[prepared.key], hit_ratio=ratio)
            group = Group(
                station=station,
                replicas=choice.replicas,
                maximum_batch=choice.batch_size,
                delay_seconds=choice.delay_seconds,
            )
            made.append((group, path))
        return made

    def tried(self, fleet: Sequence[tuple[Group, Path]], *, latency_milliseconds: float) -> Outcome | GivenUp:
        """Given up as soon as the latency is surely broken."""

        def limits() -> Array:
            allowed = latency_milliseconds / 1000 * (1 + 1e-9) * np.array([one.latency_share for one in self.targets])
            late_after: Array = self._arrival + allowed[self.draws.traffic]
            late_after[: self._warm_up] = np.inf
            return late_after

        late_after = self._late_after.get(latency_milliseconds, limits)
        spare = [one.spare(self._warm_up, self.draws.count) for one in self.targets]
        return self.simulated(fleet, Patience(late_after, self.draws.traffic, np.array(spare, dtype=np.int64)))

    def simulated(self, fleet: Sequence[tuple[Group, Path]], patience: Patience | None = None) -> Outcome | GivenUp:
        return simulate_fleet(
            draws=self.draws,
            groups=[group for group, _ in fleet],
            paths=[path for _, path in fleet],
            balancing=Balancing(
                algorithm=self.algorithm,
                dispatchers=self.settings.dispatchers,
                hash_load_percent=self.settings.hash_load_percent,
            ),
            arrival=self._arrival,
            warm_up=self._warm_up,
            patience=patience,
        )

    def idle_milliseconds(self, prepared: Prepared, *, within: float = -math.inf) -> float:
        """T at the percentile on a server without other requests, by the better of paced and saturated: a lower bound.

        The first that is ``within`` so many milliseconds is enough.
        """
        tables, least = self._tables(prepared), math.inf
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
        ratio, tables = self.workload.cache_hit_ratio_lower, self._tables(prepared)
        paths = [tables.path(heavy=heavy, hit_ratio=ratio) for heavy in (0.0, 1.0)]
        pre, post = ([getattr(path, term)[~path.hit] for path in paths] for term in ("pre", "post"))
        share = self.percentile / 100
        return 1000 * max(quantile(one, share) for one in pre), 1000 * max(quantile(one, share) for one in post)

    def batch_seconds(self, prepared: Prepared, batch_size: int) -> float:
        """Mean compute of a full batch, back to back."""
        return self._tables(prepared).batch_seconds(batch_size)

    def single_seconds(self, prepared: Prepared) -> float:
        """Mean compute of one request alone, on a lightly loaded server."""
        return self._tables(prepared).single_seconds()

    def load(self, prepared: Prepared, batch_size: int, replicas: int) -> float:
        """The rate as a share of what so many replicas carry with full batches."""
        return self.miss_rate_per_second * self.batch_seconds(prepared, batch_size) / batch_size / replicas

    def stable_replicas(self, prepared: Prepared, batch_size: int) -> int:
        return queueing.stable_replicas(
            rate_per_second=self.miss_rate_per_second,
            batch_seconds=self.batch_seconds(prepared, batch_size),
            batch_size=batch_size,
            maximum_utilization=self.settings.maximum_utilization,
        )

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
            replicas=replicas,
            batch_seconds=self.batch_seconds(prepared, batch_size),
            batch_size=batch_size,
            arrival_cv2=self.workload.least_cv2,
            percentile=percentile,
        )
        return 1000 * seconds / target.latency_share

    def busy_alone(self, choices: Sequence[tuple[Prepared, Choice]]) -> float:
        """Busy share of the fleet's compute threads if nothing were batched: batching only lowers it."""
        capacity = sum(choice.replicas / self.single_seconds(prepared) for prepared, choice in choices)
        return self.miss_rate_per_second / capacity

    def _heaviness(self, choices: Sequence[tuple[Prepared, Choice]]) -> dict[tuple[str, str], float]:
        """By the busy share without batching. Under a CPU limit, the stalls of the saturated rows are the simulation's
        own doing, so the paced rows hold.
        """
        busy = heaviness(self.busy_alone(choices))
        limited = {prepared.key: prepared.candidate.hardware.cpu_limit_cores is not None for prepared, _ in choices}
        return {key: 0.0 if limit else busy for key, limit in limited.items()}

    def _tables(self, prepared: Prepared) -> Tables:
        known = self._known_tables.get(prepared.key)
        if known is None or known.times is not prepared.times:
            overhead = self.settings.balancer_overhead_seconds
            known = self.memory.tables(prepared.times, prepared.candidate.hardware, self.draws, overhead)
            self._known_tables[prepared.key] = known
        return known


def _place(prepared: Prepared, choice: Choice) -> _Place:
    return prepared.key, choice.delay_seconds, choice.replicas
