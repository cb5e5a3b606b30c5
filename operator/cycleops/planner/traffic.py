"""The workload as random numbers drawn once: arrivals, lengths, and one uniform level per term and request.

Every candidate is simulated with the same numbers (common random numbers), so that the difference between two
candidates is theirs and not the dice's, and so that a plan depends on nothing but its input and the seed.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.histograms import LEVELS
from cycleops.planner.model import Workload
from cycleops.planner.rhythm import Bursts, Recorded
from cycleops.planner.simulation.arrivals import burst_gaps, gamma_gaps, recorded_gaps

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
LENGTH_BUCKETS = 48


@dataclass(frozen=True, kw_only=True)
class Draws:
    """One entry per request, in order of arrival at the balancer. Levels index quantiles (0 to LEVELS - 1)."""

    gaps: Array  # between arrivals, mean 1
    tokens: Indices  # length of the input
    bucket: Indices  # of that length
    bucket_lengths: Array  # mean tokens of each bucket, rising
    bucket_of: Indices  # of any length up to the longest: also of the mean length of a batch
    cache_luck: Array  # uniform; a request below the hit ratio is a hit
    dispatcher: Indices
    spread: Array  # uniform, for consistent hashing
    pre: Indices
    compute: Indices
    post: Indices
    overhead: Indices
    cache_hit: Indices
    traffic: Indices  # the class of each request; 0 without classes

    @property
    def count(self) -> int:
        return len(self.gaps)

    def batch_shares(self, batch_size: int) -> Array:
        """Of the buckets, by the mean length of full batches of requests as they come."""
        count = self.count // batch_size * batch_size
        tokens = self.tokens[:count].reshape(-1, batch_size).sum(axis=1) // batch_size
        counts = np.bincount(self.bucket_of[tokens], minlength=len(self.bucket_lengths))
        shares: Array = counts / counts.sum()
        return shares


def draw(*, workload: Workload, requests: int, dispatchers: int, seed: int) -> Draws:
    """Each kind of number has its own stream, so that changing one input leaves the others' numbers as they are."""
    *first, last = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(11))
    streams = iter(first)
    gaps = _gaps(next(streams), requests, workload)
    traffic = _traffic(last, requests, workload)
    lengths = _lengths(next(streams), requests, workload, traffic)
    bucket_of, bucket_lengths = _buckets(lengths)
    cache_luck = next(streams).random(requests)
    dispatcher = next(streams).integers(0, dispatchers, requests)
    spread = next(streams).random(requests)
    levels = [stream.integers(0, LEVELS, requests) for stream in streams]
    return Draws(
        gaps=gaps,
        tokens=lengths,
        bucket=bucket_of[lengths],
        bucket_lengths=bucket_lengths,
        bucket_of=bucket_of,
        cache_luck=cache_luck,
        dispatcher=dispatcher,
        spread=spread,
        pre=levels[0],
        compute=levels[1],
        post=levels[2],
        overhead=levels[3],
        cache_hit=levels[4],
        traffic=traffic,
    )


def _gaps(stream: np.random.Generator, requests: int, workload: Workload) -> Array:
    rhythm = workload.rhythm
    if isinstance(rhythm, Recorded):
        return recorded_gaps(gaps=rhythm.gaps_seconds, count=requests)
    if isinstance(rhythm, Bursts):
        return burst_gaps(
            stream=stream,
            count=requests,
            rate_ratio=rhythm.rate_ratio,
            burst_share=rhythm.time_share,
            burst_requests=rhythm.mean_seconds * workload.rate_per_second,
        )
    return gamma_gaps(stream=stream, count=requests, cv2=workload.burstiness_cv2)


def _traffic(stream: np.random.Generator, requests: int, workload: Workload) -> Indices:
    if not workload.classes:
        return np.zeros(requests, dtype=np.int64)
    edges = np.cumsum([one.rate_share for one in workload.classes])
    classes: Indices = np.searchsorted(edges / edges[-1], stream.random(requests), side="right")
    return classes


def _lengths(stream: np.random.Generator, requests: int, workload: Workload, traffic: Indices) -> Indices:
    """Lognormal, of the workload or of each request's class."""
    normal = stream.standard_normal(requests)
    p50, sigma = (np.array(values)[traffic] for values in zip(*_lognormals(workload), strict=True))
    whole: Indices = np.maximum(np.rint(p50 * np.exp(sigma * normal)), 1).astype(np.int64)
    return whole


def _lognormals(workload: Workload) -> list[tuple[float, float]]:
    """Median and sigma, of each class if there are any."""
    return [
        (one.input_tokens_p50, math.log(one.input_tokens_p99 / one.input_tokens_p50) / NormalDist().inv_cdf(0.99))
        for one in workload.classes or (workload,)
    ]


def _buckets(lengths: Indices) -> tuple[Indices, Array]:
    """The bucket of every length from 0 to the longest, and the mean length of each bucket. Widths grow with length."""
    edges = np.unique(np.rint(np.geomspace(lengths.min(), lengths.max() + 1, LENGTH_BUCKETS + 1)))
    wide = np.clip(np.searchsorted(edges, np.arange(lengths.max() + 1), side="right") - 1, 0, None)
    used = np.unique(wide[lengths])  # a bucket without inputs joins the one above it
    bucket_of = np.searchsorted(used, wide).astype(np.int64)
    bucket = bucket_of[lengths]
    return bucket_of, np.bincount(bucket, weights=lengths) / np.bincount(bucket)


def length_quantile(workload: Workload, percentile: float) -> float:
    """Tokens that this share (in percent) of the inputs does not exceed; of the longest class."""
    level = NormalDist().inv_cdf(percentile / 100)
    return max(p50 * math.exp(sigma * level) for p50, sigma in _lognormals(workload))
