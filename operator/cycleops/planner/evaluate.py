"""What the search asks: how does this candidate do with this batch, delay and number of replicas? Answers are kept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cycleops.planner import queueing
from cycleops.planner.model import Algorithm, Candidate, Settings, Workload
from cycleops.planner.outcomes import Sizing, prediction_of, quantile, sizing_of
from cycleops.planner.result import Prediction
from cycleops.planner.service_time import ServiceTimes, heaviness
from cycleops.planner.simulate import WARM_UP_SHARE, Outcome, Path, Shape, Station, simulate
from cycleops.planner.traffic import Draws, draw

Array = NDArray[np.float64]
_MAXIMUM_REQUESTS = 100_000
SCOUTED_SHARE = 0.15  # of the requests: enough to see that far too few replicas are too few


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A candidate whose profile can be planned from, and whose accuracy is known to be high enough."""

    candidate: Candidate
    times: ServiceTimes
    accuracy: float | None

    @property
    def key(self) -> tuple[str, str]:
        return self.candidate.profile.variant, self.candidate.hardware.name

    def servers(self, replicas: int) -> int:
        """All workers of so many pods. The simulation gives each a queue of its own, where a pod's share one: a wait
        that is, if anything, too long.
        """
        return replicas * self.candidate.profile.workers

    @property
    def lack_of_accuracy(self) -> float:
        """Lower is better."""
        return 1.0 if self.accuracy is None else -self.accuracy


@dataclass(frozen=True, kw_only=True)
class Choice:
    batch_size: int
    delay_seconds: float
    replicas: int


@dataclass(kw_only=True)
class Evaluator:
    """Simulates candidates under one workload; the same question is answered once. ``percentile`` is the budget's."""

    workload: Workload
    percentile: float
    algorithm: Algorithm
    settings: Settings
    seed: int
    draws: Draws = field(init=False)
    _kept: dict[tuple[tuple[str, str], Choice], Sizing] = field(init=False, default_factory=dict)
    _scouts: dict[tuple[tuple[str, str], Choice], Outcome] = field(init=False, default_factory=dict)
    _lengths: dict[int, Array] = field(init=False, default_factory=dict)
    _single: dict[tuple[str, str], float] = field(init=False, default_factory=dict)
    _full: dict[tuple[tuple[str, str], int], float] = field(init=False, default_factory=dict)
    _stations: dict[tuple[tuple[str, str], float], Station] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        # At least 60 requests beyond the percentile, as far as time allows.
        wanted = max(self.settings.requests, math.ceil(60 / (1 - self.percentile / 100)))
        self.draws = draw(
            workload=self.workload,
            requests=min(wanted, max(_MAXIMUM_REQUESTS, self.settings.requests)),
            dispatchers=self.settings.dispatchers,
            seed=self.seed,
        )

    @property
    def miss_rate_per_second(self) -> float:
        return self.workload.rate_per_second * (1 - self.workload.cache_hit_ratio_lower)

    @property
    def evaluations(self) -> Mapping[tuple[tuple[str, str], Choice], Sizing]:
        return self._kept

    def size(self, prepared: Prepared, choice: Choice) -> Sizing:
        """With the hits that there is evidence for: what replicas are counted by."""
        key = (prepared.key, choice)
        if key not in self._kept:
            same = self._never_full(prepared, choice)
            if same is None:
                outcome = self._simulate(prepared, choice, self.workload.cache_hit_ratio_lower, self.draws)
                same = sizing_of(outcome, percentile=self.percentile)
            self._kept[key] = same
        return self._kept[key]

    def _never_full(self, prepared: Prepared, choice: Choice) -> Sizing | None:
        """What a smaller maximum batch gave, if no batch was as large as that: then a larger one changes nothing."""
        for size in prepared.times.batch_sizes:
            known = self._kept.get((prepared.key, replace(choice, batch_size=size)))
            if size < choice.batch_size and known is not None and known.largest_batch < size:
                return known
        return None

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
            self._simulate(prepared, choice, hit_ratio, self.draws),
            percentile=self.percentile,
            residual=prepared.times.residual,
            load=self.load(prepared, choice.batch_size, choice.replicas),
            hit_ratio=hit_ratio,
            extrapolated_share=float((self.draws.tokens > prepared.times.lengths[-1] + 0.5).mean()),
        )

    def hopeless(self, prepared: Prepared, choice: Choice, *, latency_milliseconds: float) -> bool:
        """Whether the first requests alone have more late ones than the percentile allows all of them to have.

        What comes later changes nothing for those whose batch has started, so :meth:`size` would surely be above the
        latency.
        """
        if (prepared.key, choice) in self._kept or self._never_full(prepared, choice) is not None:
            return False
        scouted = self._scouted(prepared, choice)
        every = self.draws.count - scouted.warm_up
        late = int(((1000 * scouted.total > latency_milliseconds) & scouted.settled).sum())
        return late >= every - math.floor(self.percentile / 100 * (every - 1))

    def _scouted(self, prepared: Prepared, choice: Choice) -> Outcome:
        """The first requests; also those of a smaller maximum batch that no batch reached."""
        for size in prepared.times.batch_sizes:
            known = self._scouts.get((prepared.key, replace(choice, batch_size=size)))
            if known is not None and (size == choice.batch_size or known.largest_batch < size < choice.batch_size):
                return known
        first = self.draws.first(math.ceil(SCOUTED_SHARE * self.draws.count))
        outcome = self._simulate(prepared, choice, self.workload.cache_hit_ratio_lower, first)
        self._scouts[prepared.key, choice] = outcome
        return outcome

    def _simulate(self, prepared: Prepared, choice: Choice, hit_ratio: float, draws: Draws) -> Outcome:
        shape = Shape(
            replicas=prepared.servers(choice.replicas),
            maximum_batch=choice.batch_size,
            delay_seconds=choice.delay_seconds if choice.batch_size > 1 else 0.0,
            algorithm=self.algorithm,
            dispatchers=self.settings.dispatchers,
            hash_load_percent=self.settings.hash_load_percent,
        )
        return simulate(
            draws=draws,
            station=self._station(prepared, self._heaviness(prepared, prepared.servers(choice.replicas))),
            shape=shape,
            rate_per_second=self.workload.rate_per_second,
            hit_ratio=hit_ratio,
            warm_up=math.ceil(WARM_UP_SHARE * self.draws.count),
        )

    def idle_milliseconds(self, prepared: Prepared, *, within: float = -math.inf) -> float:
        """T at the percentile on a server without other requests, by the better of paced and saturated: a lower bound.

        The first that is ``within`` so many milliseconds is enough.
        """
        draws, least = self.draws, math.inf
        for heavy in (0.0, 1.0):
            path = self._path(prepared, heavy)
            alone = prepared.times.compute_quantiles(batch_size=1, lengths=draws.bucket_lengths, heavy=heavy)
            missed = path.overhead + path.pre + alone[draws.bucket, draws.compute] + path.post
            total = np.where(path.hit, path.hit_time, missed)
            least = min(least, 1000 * quantile(total, self.percentile / 100))
            if least <= within:
                break
        return least

    def stage_milliseconds(self, prepared: Prepared) -> tuple[float, float]:
        """Pre and post at the percentile, by the worse of paced and saturated: caps hold under load."""
        paths = [self._path(prepared, heavy) for heavy in (0.0, 1.0)]
        pre, post = ([getattr(path, term)[~path.hit] for path in paths] for term in ("pre", "post"))
        share = self.percentile / 100
        return 1000 * max(quantile(one, share) for one in pre), 1000 * max(quantile(one, share) for one in post)

    def _path(self, prepared: Prepared, heavy: float) -> Path:
        station, ratio = self._station(prepared, heavy), self.workload.cache_hit_ratio_lower
        return Path.of(draws=self.draws, station=station, hit_ratio=ratio)

    def batch_seconds(self, prepared: Prepared, batch_size: int) -> float:
        """Mean compute of a full batch, back to back."""
        key = (prepared.key, batch_size)
        if key not in self._full:
            self._full[key] = self._batch_seconds(prepared, batch_size)
        return self._full[key]

    def _batch_seconds(self, prepared: Prepared, batch_size: int) -> float:
        lengths = self.draws.bucket_lengths
        by_bucket = prepared.times.mean_compute_seconds(batch_size=batch_size, lengths=lengths, heavy=1.0)
        return float(by_bucket @ self._shares(batch_size))

    def single_seconds(self, prepared: Prepared) -> float:
        """Mean compute of one request alone, on a lightly loaded server."""
        if prepared.key not in self._single:
            lengths = self.draws.bucket_lengths
            by_bucket = prepared.times.mean_compute_seconds(batch_size=1, lengths=lengths, heavy=0.0)
            self._single[prepared.key] = float(by_bucket @ self._shares(1))
        return self._single[prepared.key]

    def _shares(self, batch_size: int) -> Array:
        """Of the buckets of mean length among full batches."""
        if batch_size not in self._lengths:
            count = self.draws.count // batch_size * batch_size
            tokens = self.draws.tokens[:count].reshape(-1, batch_size).sum(axis=1) // batch_size
            counts = np.bincount(self.draws.bucket_of[tokens], minlength=len(self.draws.bucket_lengths))
            self._lengths[batch_size] = counts / counts.sum()
        return self._lengths[batch_size]

    def load(self, prepared: Prepared, batch_size: int, replicas: int) -> float:
        """The rate as a share of what so many replicas carry with full batches."""
        return (
            self.miss_rate_per_second
            * self.batch_seconds(prepared, batch_size)
            / batch_size
            / prepared.servers(replicas)
        )

    def stable_replicas(self, prepared: Prepared, batch_size: int) -> int:
        return queueing.stable_replicas(
            rate_per_second=self.miss_rate_per_second,
            batch_seconds=self.batch_seconds(prepared, batch_size),
            batch_size=batch_size,
            maximum_utilization=self.settings.maximum_utilization,
        )

    def fewest_replicas(self, prepared: Prepared, batch_size: int) -> int:
        """Pods whose workers carry the rate."""
        return math.ceil(self.stable_replicas(prepared, batch_size) / prepared.servers(1))

    def wait_bound_milliseconds(self, prepared: Prepared, *, batch_size: int, replicas: int) -> float:
        """Optimistic wait at the percentile of the misses that the percentile of all requests implies."""
        percentile = queueing.percentile_of_misses(
            percentile=self.percentile, hit_ratio=self.workload.cache_hit_ratio_lower
        )
        return 1000 * queueing.wait_bound_seconds(
            rate_per_second=self.miss_rate_per_second,
            replicas=prepared.servers(replicas),
            batch_seconds=self.batch_seconds(prepared, batch_size),
            batch_size=batch_size,
            arrival_cv2=self.workload.least_cv2,
            percentile=percentile,
        )

    def _heaviness(self, prepared: Prepared, replicas: int) -> float:
        """By the busy share without batching: batching only lowers it. Under a CPU limit, the stalls of the saturated
        rows are the simulation's own doing, so the paced rows hold.
        """
        if prepared.candidate.hardware.cpu_limit_cores is not None:
            return 0.0
        return heaviness(self.miss_rate_per_second * self.single_seconds(prepared) / replicas)

    def _station(self, prepared: Prepared, heavy: float) -> Station:
        key = (prepared.key, heavy)
        if key not in self._stations:
            times, lengths = prepared.times, self.draws.bucket_lengths
            self._stations[key] = Station(
                compute=times.table(
                    lengths=lengths,
                    bucket_of=self.draws.bucket_of,
                    maximum_batch=times.batch_sizes[-1],
                    heavy=heavy,
                ),
                pre=times.pre_table(lengths=lengths, heavy=heavy),
                post=times.post_levels(heavy=heavy),
                overhead=times.overhead,
                cache_hit=times.cache_hit,
                balancer_overhead_seconds=self.settings.balancer_overhead_seconds,
                quota_seconds=prepared.candidate.hardware.quota_seconds / prepared.servers(1),
                threads=prepared.candidate.hardware.threads,
            )
        return self._stations[key]
