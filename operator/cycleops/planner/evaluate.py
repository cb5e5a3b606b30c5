"""What the search asks: how does this candidate do with this batch, delay and number of replicas? Answers are kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.bounds import Bounds
from cycleops.planner.choice import Choice, Fleet, Prepared
from cycleops.planner.memory import Kept
from cycleops.planner.model import Algorithm
from cycleops.planner.outcomes import Sizing, prediction_of, sizing_of
from cycleops.planner.result import Prediction
from cycleops.planner.simulate import (
    WARM_UP_SHARE,
    Balancing,
    GivenUp,
    Group,
    Outcome,
    Path,
    requests_of,
    simulate_fleet,
)
from cycleops.planner.simulation.rules import Patience, Requests

Array = NDArray[np.float64]
_OUTCOMES = 16  # some 1 MB each
_PATHS = 24  # some 0.2 MB each


# What is known is kept by candidate, delay and replicas, and there by maximum batch.
_Place = tuple[tuple[str, str], float, int]


@dataclass(frozen=True, kw_only=True)
class _Broken:
    """A budget that a choice was seen to break before its simulation's end."""

    latency_milliseconds: float
    largest_batch: int


@dataclass(kw_only=True)
class Evaluator(Bounds):
    """Simulates candidates under one workload; the same question is answered once. ``percentile`` is the budget's."""

    algorithm: Algorithm
    _arrival: Array = field(init=False)
    _warm_up: int = field(init=False)
    _kept: dict[_Place, dict[int, Sizing]] = field(init=False, default_factory=dict)
    _broken: dict[_Place, dict[int, _Broken]] = field(init=False, default_factory=dict)
    _held: Kept[Outcome] = field(init=False, default_factory=lambda: Kept(_OUTCOMES))
    _requests: Kept[tuple[Path, Requests]] = field(init=False, default_factory=lambda: Kept(_PATHS))
    _tight: dict[tuple[tuple[str, str], int, int], bool] = field(init=False, default_factory=dict)
    _late_after: Kept[Array] = field(init=False, default_factory=lambda: Kept(_OUTCOMES))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._arrival = np.cumsum(self.draws.gaps) / self.workload.rate_per_second
        self._warm_up = math.ceil(WARM_UP_SHARE * self.draws.count)

    @property
    def _balancing(self) -> Balancing:
        return Balancing(
            algorithm=self.algorithm,
            dispatchers=self.settings.dispatchers,
            hash_load_percent=self.settings.hash_load_percent,
        )

    @property
    def evaluations(self) -> dict[tuple[tuple[str, str], Choice], Sizing]:
        """What was simulated to the end; where the load is tight, with more requests too."""
        found = {}
        for (key, delay, replicas), by_size in self._kept.items():
            for size, sizing in by_size.items():
                choice = Choice(batch_size=size, delay_seconds=delay, replicas=replicas)
                if not self._tight.get((key, size, replicas), False):
                    found[key, choice] = sizing
                elif tight := self.tight._kept.get((key, delay, replicas), {}).get(size):
                    found[key, choice] = _stricter(sizing, tight)
        return found

    @cached_property
    def tight(self) -> "Evaluator":
        """Under as many more requests as a tight load must leave room for."""
        more = self.workload.rate_per_second * self.settings.tight_growth
        return replace(
            self,
            workload=replace(self.workload, rate_per_second=more),
            settings=replace(self.settings, maximum_utilization=0.99, tight_from=math.inf),
        )

    def is_tight(self, prepared: Prepared, choice: Choice) -> bool:
        """Whether the budget must also be held by :attr:`tight`."""
        key = (prepared.key, choice.batch_size, choice.replicas)
        if key not in self._tight:
            load = self.load(prepared, choice.batch_size, choice.replicas)
            self._tight[key] = load > self.settings.tight_from
        return self._tight[key]

    def known(self, prepared: Prepared, choice: Choice) -> Sizing | None:
        """At the rate itself, if it was simulated to the end, or a smaller maximum batch was that no batch reached."""
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
            outcome = self._simulate(((prepared, choice),), self.workload.cache_hit_ratio_lower)
            sizing = self._keep(prepared, choice, outcome)
        return _stricter(sizing, self.tight.size(prepared, choice)) if self.is_tight(prepared, choice) else sizing

    def _keep(self, prepared: Prepared, choice: Choice, outcome: Outcome) -> Sizing:
        sizing = sizing_of(outcome, percentile=self.percentile, targets=self.targets)
        self._kept.setdefault(_place(prepared, choice), {})[choice.batch_size] = sizing
        return sizing

    def within(self, prepared: Prepared, choice: Choice, *, latency_milliseconds: float) -> Sizing | None:
        """As :meth:`size` where it is within the latency; None where it is not.

        A simulation that has more late requests than the percentile allows is given up: those to come can't mend it.
        """
        sizing = self._within(prepared, choice, latency_milliseconds)
        if sizing is None or not self.is_tight(prepared, choice):
            return sizing
        tight = self.tight.within(prepared, choice, latency_milliseconds=latency_milliseconds)
        return None if tight is None else _stricter(sizing, tight)

    def _within(self, prepared: Prepared, choice: Choice, latency_milliseconds: float) -> Sizing | None:
        """At the rate itself."""
        sizing = self.known(prepared, choice)
        if sizing is None:
            if self.broken(prepared, choice, latency_milliseconds):
                return None
            outcome = self.tried(self.groups([(prepared, choice)]), latency_milliseconds=latency_milliseconds)
            if isinstance(outcome, GivenUp):
                broken = _Broken(latency_milliseconds=latency_milliseconds, largest_batch=outcome.largest_batch)
                self._broken.setdefault(_place(prepared, choice), {})[choice.batch_size] = broken
                return None
            names = _names(((prepared, choice),))
            self._held.get((names, self.workload.cache_hit_ratio_lower), lambda: outcome)
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
        return self.predict_fleet(((prepared, choice),))

    def fleet_within(self, fleet: Fleet, *, latency_milliseconds: float) -> Sizing | None:
        """As :meth:`within`, of several kinds together."""
        if len(fleet) == 1:
            return self.within(*fleet[0], latency_milliseconds=latency_milliseconds)
        outcome = self.tried(self.groups(fleet), latency_milliseconds=latency_milliseconds)
        if isinstance(outcome, GivenUp):
            return None
        sizing = sizing_of(outcome, percentile=self.percentile, targets=self.targets)
        if sizing.sized_at_ms > latency_milliseconds or self.fleet_load(fleet) <= self.settings.tight_from:
            return sizing if sizing.sized_at_ms <= latency_milliseconds else None
        tight = self.tight.fleet_within(fleet, latency_milliseconds=latency_milliseconds)
        return None if tight is None else _stricter(sizing, tight)

    def predict_fleet(self, fleet: Fleet) -> Prediction:
        """As :meth:`predict`, of several kinds together."""
        ratios = {self.workload.expected_hit_ratio, self.workload.cache_hit_ratio_lower}
        seen, *others = [self._fleet_predicted(fleet, ratio) for ratio in sorted(ratios, reverse=True)]
        if self.fleet_load(fleet) > self.settings.tight_from:
            others.append(self.tight.predict_fleet(fleet))
        for other in others:
            sized, high = max(seen.sized_at_ms, other.sized_at_ms), max(seen.high_ms, other.high_ms)
            seen = replace(seen, sized_at_ms=sized, high_ms=high)
        return seen

    def _fleet_predicted(self, fleet: Fleet, hit_ratio: float) -> Prediction:
        outcome = self._simulate(fleet, hit_ratio)
        longest = min(one.times.lengths[-1] for one, _ in fleet)
        return prediction_of(
            outcome,
            percentile=self.percentile,
            targets=self.targets,
            residual=max(one.times.residual for one, _ in fleet),
            load=self.fleet_load(fleet),
            hit_ratio=hit_ratio,
            extrapolated_share=float((self.draws.tokens > longest + 0.5).mean()),
        )

    def _simulate(self, fleet: Fleet, hit_ratio: float) -> Outcome:
        def run() -> Outcome:
            outcome = self.simulated(self.groups(fleet, hit_ratio))
            assert isinstance(outcome, Outcome)  # without patience it runs to its end
            return outcome

        return self._held.get((_names(fleet), hit_ratio), run)

    def replayed(self, fleet: Sequence[tuple[Prepared, Choice]], arrival: Array, *, hit_ratio: float) -> Outcome:
        """A fleet under these arrivals, in seconds, one for each of the draws; all of them count."""
        groups, paths = zip(*self.groups(fleet, hit_ratio), strict=True)
        requests = requests_of(self.draws, paths, self._balancing, arrival)
        outcome = simulate_fleet(requests=requests, groups=groups, paths=paths, balancing=self._balancing, warm_up=0)
        assert isinstance(outcome, Outcome)  # without patience it runs to its end
        return outcome

    def groups(
        self, choices: Sequence[tuple[Prepared, Choice]], hit_ratio: float | None = None
    ) -> list[tuple[Group, Path]]:
        """A fleet of these, with the hits that there is evidence for if no others are given."""
        ratio = self.workload.cache_hit_ratio_lower if hit_ratio is None else hit_ratio
        made, heavy = [], self.heaviness_of(choices)
        for prepared, choice in choices:
            station, path = self.tables_of(prepared).station(heavy=heavy[prepared.key], hit_ratio=ratio)
            group = Group(
                station=station,
                replicas=prepared.servers(choice.replicas),
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
        groups, paths = zip(*fleet, strict=True)
        return simulate_fleet(
            requests=self._requests_of(paths),
            groups=groups,
            paths=paths,
            balancing=self._balancing,
            warm_up=self._warm_up,
            patience=patience,
        )

    def _requests_of(self, paths: tuple[Path, ...]) -> Requests:
        """Of one kind of replica they are kept; with their path, so that its identity stays its own."""

        def make() -> tuple[Path, Requests]:
            return paths[0], requests_of(self.draws, paths, self._balancing, self._arrival)

        return make()[1] if len(paths) > 1 else self._requests.get(id(paths[0]), make)[1]


def _stricter(sizing: Sizing, tight: Sizing) -> Sizing:
    return replace(sizing, sized_at_ms=max(sizing.sized_at_ms, tight.sized_at_ms))


def _place(prepared: Prepared, choice: Choice) -> _Place:
    return prepared.key, choice.delay_seconds, choice.replicas


def _names(fleet: Fleet) -> tuple[tuple[tuple[str, str], Choice], ...]:
    return tuple((prepared.key, choice) for prepared, choice in fleet)
