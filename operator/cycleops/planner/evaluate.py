"""What the search asks: how does this candidate do with this batch, delay and number of replicas? Answers are kept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cycleops.planner import queueing
from cycleops.planner.model import Algorithm, Candidate, Settings, Workload
from cycleops.planner.result import Prediction, Term
from cycleops.planner.service_time import ServiceTimes, heaviness
from cycleops.planner.simulate import Outcome, Path, Shape, Station, simulate
from cycleops.planner.simulation import intervals
from cycleops.planner.traffic import Draws, draw

Array = NDArray[np.float64]
HISTOGRAM_ERROR = 0.01  # cycle_wire.profile: a bucket's middle is within 1 % of what is in it
_MAXIMUM_REQUESTS = 100_000


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A candidate whose profile can be planned from, and whose accuracy is known to be high enough."""

    candidate: Candidate
    times: ServiceTimes
    accuracy: float | None

    @property
    def key(self) -> tuple[str, str]:
        return self.candidate.profile.variant, self.candidate.hardware.name


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
    _kept: dict[tuple[tuple[str, str], Choice], Prediction] = field(init=False, default_factory=dict)
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
    def evaluations(self) -> Mapping[tuple[tuple[str, str], Choice], Prediction]:
        return self._kept

    def predict(self, prepared: Prepared, choice: Choice) -> Prediction:
        """With the hits that there is evidence for: what replicas are counted by."""
        key = (prepared.key, choice)
        if key not in self._kept:
            self._kept[key] = self._simulated(prepared, choice, self.workload.cache_hit_ratio_lower)
        return self._kept[key]

    def expect(self, prepared: Prepared, choice: Choice) -> Prediction:
        """With the hits that were measured: what will be seen. It is held against the budget as :meth:`predict` is."""
        sized, ratio = self.predict(prepared, choice), self.workload.expected_hit_ratio
        if ratio == self.workload.cache_hit_ratio_lower:
            return sized
        seen = self._simulated(prepared, choice, ratio)
        return replace(
            seen,
            sized_at_ms=max(seen.sized_at_ms, sized.sized_at_ms),
            high_ms=max(seen.high_ms, sized.high_ms),  # the hit ratio may be as low as its bound
            load=sized.load,
        )

    def _simulated(self, prepared: Prepared, choice: Choice, hit_ratio: float) -> Prediction:
        shape = Shape(
            replicas=choice.replicas,
            maximum_batch=choice.batch_size,
            delay_seconds=choice.delay_seconds if choice.batch_size > 1 else 0.0,
            algorithm=self.algorithm,
            dispatchers=self.settings.dispatchers,
            hash_load_percent=self.settings.hash_load_percent,
        )
        outcome = simulate(
            draws=self.draws,
            station=self._station(prepared, self._heaviness(prepared, choice.replicas)),
            shape=shape,
            rate_per_second=self.workload.rate_per_second,
            hit_ratio=hit_ratio,
        )
        return _prediction(
            outcome,
            percentile=self.percentile,
            residual=prepared.times.residual,
            load=self.load(prepared, choice.batch_size, choice.replicas),
            hit_ratio=hit_ratio,
            extrapolated_share=float((self.draws.tokens > prepared.times.lengths[-1] + 0.5).mean()),
        )

    def idle_milliseconds(self, prepared: Prepared, *, percentile: float) -> tuple[float, float, float]:
        """T, pre and post at the percentile on a server without other requests.

        T by the better of paced and saturated, so a lower bound; pre and post by the worse, as caps hold under load.
        """
        draws, results = self.draws, []
        for heavy in (0.0, 1.0):
            station = self._station(prepared, heavy)
            path = Path.of(draws=draws, station=station, hit_ratio=self.workload.cache_hit_ratio_lower)
            alone = prepared.times.compute_quantiles(batch_size=1, lengths=draws.bucket_lengths, heavy=heavy)
            compute = alone[draws.bucket, draws.compute]
            total = np.where(path.hit, path.hit_time, path.overhead + path.pre + compute + path.post)
            terms = (total, path.pre[~path.hit], path.post[~path.hit])
            results.append([1000 * _quantile(term, percentile / 100) for term in terms])
        (paced, *paced_terms), (saturated, *saturated_terms) = results
        pre_ms, post_ms = np.maximum(paced_terms, saturated_terms).tolist()
        return min(paced, saturated), pre_ms, post_ms

    def batch_seconds(self, prepared: Prepared, batch_size: int) -> float:
        """Mean compute of a full batch, back to back."""
        count = self.draws.count // batch_size * batch_size
        tokens = self.draws.tokens[:count].reshape(-1, batch_size).sum(axis=1) // batch_size
        by_bucket = prepared.times.mean_compute_seconds(
            batch_size=batch_size, lengths=self.draws.bucket_lengths, heavy=1.0
        )
        return float(by_bucket[self.draws.bucket_of[tokens]].mean())

    def single_seconds(self, prepared: Prepared) -> float:
        """Mean compute of one request alone, on a lightly loaded server."""
        lengths = self.draws.bucket_lengths
        by_bucket = prepared.times.mean_compute_seconds(batch_size=1, lengths=lengths, heavy=0.0)
        return float(by_bucket[self.draws.bucket].mean())

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
        percentile = queueing.percentile_of_misses(
            percentile=self.percentile, hit_ratio=self.workload.cache_hit_ratio_lower
        )
        return 1000 * queueing.wait_bound_seconds(
            rate_per_second=self.miss_rate_per_second,
            replicas=replicas,
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
                quota_seconds=prepared.candidate.hardware.quota_seconds,
                threads=prepared.candidate.hardware.threads,
            )
        return self._stations[key]


def _quantile(values: Array, share: float) -> float:
    """0 when there is nothing."""
    return float(intervals.of_sorted(np.sort(values), share=share)) if len(values) else 0.0


def _term(seconds: Array) -> Term:
    if not len(seconds):
        return Term(mean_ms=0.0, p50_ms=0.0, p99_ms=0.0)
    rising = np.sort(seconds)
    p50, p99 = (float(intervals.of_sorted(rising, share=share)) for share in (0.5, 0.99))
    return Term(mean_ms=1000 * float(seconds.mean()), p50_ms=1000 * p50, p99_ms=1000 * p99)


def _prediction(
    outcome: Outcome,
    *,
    percentile: float,
    residual: float,
    load: float,
    hit_ratio: float,
    extrapolated_share: float,
) -> Prediction:
    estimate = intervals.quantile(outcome.total, share=percentile / 100)
    latency, half_width = 1000 * estimate.value, 1000 * estimate.half_width
    total, compute = _term(outcome.total), _term(outcome.compute)
    band = math.hypot(half_width, residual * min(compute.p99_ms, latency), HISTOGRAM_ERROR * latency)
    return Prediction(
        percentile=percentile,
        latency_ms=latency,
        sized_at_ms=latency + half_width,
        low_ms=max(latency - band, 0.0),
        high_ms=latency + band,
        p50_ms=total.p50_ms,
        p99_ms=total.p99_ms,
        pre=_term(outcome.pre),
        queue=_term(outcome.queue),
        compute=compute,
        post=_term(outcome.post),
        overhead=_term(outcome.overhead),
        utilization=outcome.utilization,
        load=load,
        mean_batch=outcome.mean_batch,
        cache_hit_ratio=hit_ratio,
        extrapolated_share=extrapolated_share,
    )
