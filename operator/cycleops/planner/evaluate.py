"""What the search asks: how does this candidate do with this batch, delay and number of replicas? Answers are kept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cycleops.planner import queueing
from cycleops.planner.model import Algorithm, Candidate, Settings, Workload
from cycleops.planner.result import Prediction, Term
from cycleops.planner.service_time import ComputeTable, ServiceTimes, heaviness
from cycleops.planner.simulate import Outcome, Shape, Station, simulate
from cycleops.planner.traffic import Draws, draw

Array = NDArray[np.float64]
HISTOGRAM_ERROR = 0.01  # cycle_wire.profile: a bucket's middle is within 1 % of what is in it
_BATCH_MEANS = 10
_STUDENT_95 = 2.262  # t of 9 degrees of freedom, two-sided 95 %
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
        key = (prepared.key, choice)
        if key not in self._kept:
            shape = Shape(
                replicas=choice.replicas,
                maximum_batch=choice.batch_size,
                delay_seconds=choice.delay_seconds if choice.batch_size > 1 else 0.0,
                algorithm=self.algorithm,
                dispatchers=self.settings.dispatchers,
            )
            outcome = simulate(
                draws=self.draws,
                station=self._station(prepared, self._heaviness(prepared, choice.replicas)),
                shape=shape,
                rate_per_second=self.workload.rate_per_second,
            )
            self._kept[key] = _prediction(
                outcome,
                percentile=self.percentile,
                residual=prepared.times.residual,
                load=self.load(prepared, choice.batch_size, choice.replicas),
            )
        return self._kept[key]

    def idle_milliseconds(self, prepared: Prepared, *, percentile: float) -> tuple[float, float, float]:
        """T, pre and post at the percentile on a server without other requests.

        T by the better of paced and saturated, so a lower bound; pre and post by the worse, as caps hold under load.
        """
        draws, results = self.draws, []
        for heavy in (0.0, 1.0):
            station = self._station(prepared, heavy)
            pre, post = station.pre[draws.bucket, draws.pre], station.post[draws.post]
            compute = np.asarray(station.compute[1])[draws.bucket, draws.compute]
            total = np.where(
                draws.hit,
                station.cache_hit[draws.cache_hit],
                station.overhead[draws.overhead] + pre + compute + post,
            )
            total = total + station.balancer_overhead_seconds
            terms = (total, pre[~draws.hit], post[~draws.hit])
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
        beyond = (1 - self.percentile / 100) / (1 - self.workload.cache_hit_ratio_lower)
        return 1000 * queueing.wait_bound_seconds(
            rate_per_second=self.miss_rate_per_second,
            replicas=replicas,
            batch_seconds=self.batch_seconds(prepared, batch_size),
            batch_size=batch_size,
            arrival_cv2=self.workload.burstiness_cv2,
            percentile=100 * max(1 - beyond, 0.0),
        )

    def _heaviness(self, prepared: Prepared, replicas: int) -> float:
        """By the busy share without batching: batching only lowers it."""
        return heaviness(self.miss_rate_per_second * self.single_seconds(prepared) / replicas)

    def _station(self, prepared: Prepared, heavy: float) -> Station:
        key = (prepared.key, heavy)
        if key not in self._stations:
            times, lengths = prepared.times, self.draws.bucket_lengths
            self._stations[key] = Station(
                compute=ComputeTable(times, lengths=lengths, heavy=heavy),
                pre=times.pre_table(lengths=lengths, heavy=heavy),
                post=times.post_levels(heavy=heavy),
                overhead=times.overhead,
                cache_hit=times.cache_hit,
                balancer_overhead_seconds=self.settings.balancer_overhead_seconds,
            )
        return self._stations[key]


def _quantile(values: Array, share: float) -> float:
    """0 when there is nothing."""
    return float(np.quantile(values, share)) if len(values) else 0.0


def _term(seconds: Array) -> Term:
    mean = 1000 * float(seconds.mean()) if len(seconds) else 0.0
    return Term(mean_ms=mean, p50_ms=1000 * _quantile(seconds, 0.5), p99_ms=1000 * _quantile(seconds, 0.99))


def _prediction(outcome: Outcome, *, percentile: float, residual: float, load: float) -> Prediction:
    share = percentile / 100
    latency = 1000 * _quantile(outcome.total, share)
    parts = [1000 * _quantile(part, share) for part in np.array_split(outcome.total, _BATCH_MEANS)]
    half_width = _STUDENT_95 * float(np.std(parts, ddof=1)) / math.sqrt(_BATCH_MEANS)
    compute = _term(outcome.compute)
    band = math.hypot(half_width, residual * min(compute.p99_ms, latency), HISTOGRAM_ERROR * latency)
    return Prediction(
        percentile=percentile,
        latency_ms=latency,
        sized_at_ms=latency + half_width,
        low_ms=max(latency - band, 0.0),
        high_ms=latency + band,
        p50_ms=1000 * _quantile(outcome.total, 0.5),
        p99_ms=1000 * _quantile(outcome.total, 0.99),
        pre=_term(outcome.pre),
        queue=_term(outcome.queue),
        compute=compute,
        post=_term(outcome.post),
        overhead=_term(outcome.overhead),
        utilization=outcome.utilization,
        load=load,
        mean_batch=outcome.mean_batch,
    )
