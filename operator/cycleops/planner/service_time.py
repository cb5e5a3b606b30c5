"""A profile as quantile functions: pre, compute, post, overhead of a request or batch of any length.

Every term is kept as its quantiles at LEVELS equally likely levels, because quantiles can be interpolated between
measured rows level by level (the interpolated distribution keeps the shape of its neighbours) while histograms can't.
Between rows the compute time is the fitted law (laws.py) times what was measured over it, and that ratio is piecewise
linear in sequence length and in batch size: at a row it is what was measured, between rows it bends as the law does.
Where the law does not fit (residual above LAW_TRUSTED_TO) the time itself is piecewise linear. The rows' means are made
to never fall when length or batch grows, since a fall is noise. Below the shortest measured length its time is used;
above the longest, the law goes on (or the last slope), and the search refuses workloads in which that would matter.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cycle_wire.profile import Histogram, Pace, Profile, ProfileRow
from cycleops.planner.laws import ComputeLaw, fit_compute
from cycleops.planner.simulation.rules import Table

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
LEVELS = 256
LAW_TRUSTED_TO = 0.15  # relative residual; with a worse law its bends would do more harm than straight lines
MAXIMUM_EXTRAPOLATION = 2  # times the longest measured length
POOLING = 200  # samples at which a row's own shape counts as much as that of all rows
# Below half load a server has pauses, as in the paced rows; at full load it has none. In between, a blend.
PACED_UTILIZATION = 0.5


class IncompleteProfileError(ValueError):
    """The rows of a profile are no grid to plan from; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class ServiceTimes:
    """Quantiles in seconds. The last axis of every array is the level; a first axis of pace is [paced, saturated]."""

    batch_sizes: tuple[int, ...]
    lengths: tuple[int, ...]
    compute: Array  # pace, batch size, length, level
    law: ComputeLaw | None  # None: the rows follow none
    parameters: int
    pre: Array  # pace, length, level
    post: Array  # pace, level
    overhead: Array  # level
    cache_hit: Array  # level
    overhead_cpu_seconds: float  # CPU time of a miss beside the model's terms, and of a hit; 0 when not measured
    cache_hit_cpu_seconds: float
    residual: float  # relative error of interpolating between rows, root mean square

    def mean_compute_seconds(self, *, batch_size: int, lengths: Array, heavy: float) -> Array:
        """Mean compute of a batch, by the mean length of its inputs."""
        sizes = np.array([float(batch_size)])
        ratio = self._ratio(self._over_law_mean, lengths, heavy)
        by_size = _interpolate(ratio, np.array(self.batch_sizes, dtype=float), sizes, axis=0)
        means: Array = by_size[0, :, 0] * self._law(sizes, lengths)[0]
        return means

    def compute_quantiles(self, *, batch_size: int, lengths: Array, heavy: float) -> Array:
        """Compute of a batch: [mean length of its inputs, level] in seconds."""
        sizes = np.array([float(batch_size)])
        ratio = self._ratio(self._over_law, lengths, heavy)
        by_size = _interpolate(ratio, np.array(self.batch_sizes, dtype=float), sizes, axis=0)
        quantiles: Array = by_size[0] * self._law(sizes, lengths)[0][:, None]
        return quantiles

    def table(self, *, lengths: Array, bucket_of: Indices, maximum_batch: int, heavy: float) -> Table:
        """For the simulation: batches of any size up to this, with ``lengths`` the mean tokens of each bucket."""
        sizes, grid = np.arange(maximum_batch + 1, dtype=float), np.array(self.batch_sizes, dtype=float)
        left, share = _places(sizes, grid)
        return Table(
            ratio=np.ascontiguousarray(self._ratio(self._over_law, lengths, heavy)),
            law=self._law(np.maximum(sizes, 1.0), lengths),
            left=left,
            share=share,
            bucket_of=bucket_of,
        )

    def pre_table(self, *, lengths: Array, heavy: float) -> Array:
        """Pre of one request: [length, level] in seconds."""
        return _interpolate(_blend(self.pre, heavy), np.array(self.lengths, dtype=float), lengths, axis=0)

    def post_levels(self, *, heavy: float) -> Array:
        return _blend(self.post, heavy)

    @cached_property
    def _over_law(self) -> Array:
        """What was measured over the law: pace, batch size, length, level."""
        sizes, lengths = np.array(self.batch_sizes, dtype=float), np.array(self.lengths, dtype=float)
        ratio: Array = self.compute / self._law(sizes, lengths)[..., None]
        return ratio

    @cached_property
    def _over_law_mean(self) -> Array:
        mean: Array = self._over_law.mean(axis=-1, keepdims=True)
        return mean

    def _ratio(self, over_law: Array, lengths: Array, heavy: float) -> Array:
        """[measured batch size, length, level]."""
        grid = np.array(self.lengths, dtype=float)
        if self.law is not None:
            lengths = np.minimum(lengths, grid[-1])  # beyond, the law alone goes on
        return _interpolate(_blend(over_law, heavy), grid, lengths, axis=1)

    def _law(self, sizes: Array, lengths: Array) -> Array:
        """[batch size, length]; 1 where the rows follow no law."""
        if self.law is None:
            return np.ones((len(sizes), len(lengths)))
        longest = MAXIMUM_EXTRAPOLATION * self.lengths[-1]
        tokens = np.clip(lengths, self.lengths[0], longest)
        return self.law.seconds(parameters=self.parameters, batch_size=sizes[:, None], tokens=tokens[None, :])


def service_times(profile: Profile) -> ServiceTimes:
    """Raises :class:`IncompleteProfileError`."""
    cells = {(row.pace, row.batch_size, row.sequence_length): row for row in profile.rows if row.compute.count}
    lengths = tuple(sorted({length for _, size, length in cells if size == 1}))
    if not lengths:
        raise IncompleteProfileError("it has no row of batch size 1")
    sizes = tuple(
        size
        for size in sorted({size for _, size, _ in cells})
        if all(any((pace, size, length) in cells for pace in Pace) for length in lengths)
    )
    if not sizes or sizes[0] != 1:
        raise IncompleteProfileError("no batch size was measured at every length")
    compute = _rising_mean(
        np.array(
            [
                _with_pooled_tails([[_cell(cells, pace, size, length).compute for length in lengths] for size in sizes])
                for pace in Pace
            ]
        )
    )
    law = _law(profile, compute[0].mean(axis=-1), sizes, lengths)
    bare = ServiceTimes(
        batch_sizes=sizes,
        lengths=lengths,
        compute=compute,
        law=law,
        parameters=profile.parameters,
        pre=np.array([[_quantiles(_merged(r.pre for r in _at(cells, p, n))) for n in lengths] for p in Pace]),
        post=np.array([_quantiles(_merged(r.post for n in lengths for r in _at(cells, p, n))) for p in Pace]),
        overhead=_quantiles(profile.overhead),
        cache_hit=_quantiles(profile.cache_hit),
        overhead_cpu_seconds=profile.overhead_cpu_seconds,
        cache_hit_cpu_seconds=profile.cache_hit_cpu_seconds,
        residual=0.0,
    )
    sizes_axis, lengths_axis = np.array(sizes, dtype=float), np.array(lengths, dtype=float)
    residual = _residual(bare._over_law_mean[..., 0], sizes_axis, lengths_axis)
    return replace(bare, residual=residual)


def _law(profile: Profile, means: Array, sizes: Sequence[int], lengths: Sequence[int]) -> ComputeLaw | None:
    """Through the means that the plan is made from; None when it misses them by too much."""
    rows = [
        (profile.parameters, size, length, float(means[i, j]))
        for i, size in enumerate(sizes)
        for j, length in enumerate(lengths)
    ]
    law = fit_compute(rows)
    return law if law.residual <= LAW_TRUSTED_TO else None


Cells = dict[tuple[Pace, int, int], ProfileRow]


def _cell(cells: Cells, pace: Pace, size: int, length: int) -> ProfileRow:
    other = Pace.SATURATED if pace is Pace.PACED else Pace.PACED
    return cells.get((pace, size, length)) or cells[(other, size, length)]


def _at(cells: Cells, pace: Pace, length: int) -> list[ProfileRow]:
    """Rows of one length; of this pace when there are any."""
    rows = [row for (_, _, n), row in cells.items() if n == length]
    return [row for row in rows if row.pace is pace] or rows


def _merged(histograms: Iterable[Histogram]) -> Histogram:
    counts: Counter[int] = Counter()
    for histogram in histograms:
        for bucket, count in zip(histogram.buckets, histogram.counts, strict=True):
            counts[bucket] += count
    buckets = sorted(counts)
    return Histogram.model_construct(buckets=buckets, counts=[counts[bucket] for bucket in buckets])


def _quantiles(histogram: Histogram) -> Array:
    """Seconds at the middle of each level; zeros when nothing was measured."""
    if not histogram.count:
        return np.zeros(LEVELS)
    return _levels(np.array(histogram.values_seconds()), np.array(histogram.counts))


def _levels(values: Array, counts: NDArray[np.int64]) -> Array:
    """Quantiles of rising values that occur so often."""
    seen = np.cumsum(counts)
    targets = (np.arange(LEVELS) + 0.5) / LEVELS * seen[-1]
    quantiles: Array = values[np.searchsorted(seen, targets)]
    return quantiles


def _with_pooled_tails(rows: Sequence[Sequence[Histogram]]) -> Array:
    """Quantiles of each row: [batch size, length, level].

    A row has tens of samples, and a 99th percentile needs hundreds. So the shape around the median is shared: each
    row's own quantiles count with the weight n / (n + POOLING), and the rest is its median times the shape of all rows
    together. That takes disturbances to be relative to the time they disturb.
    """
    every = [histogram for row in rows for histogram in row]
    medians = [histogram.quantile_seconds(0.5) for histogram in every]
    ratios = np.concatenate([np.array(h.values_seconds()) / m for h, m in zip(every, medians, strict=True)])
    counts = np.concatenate([np.array(h.counts) for h in every])
    order = np.argsort(ratios)
    shape = _levels(ratios[order], counts[order])
    weights = [h.count / (h.count + POOLING) for h in every]
    mixed = [w * _quantiles(h) + (1 - w) * m * shape for h, m, w in zip(every, medians, weights, strict=True)]
    return np.array(mixed).reshape(len(rows), len(rows[0]), LEVELS)


def _blend(paces: Array, heavy: float) -> Array:
    """0: paced; 1: saturated."""
    mixed: Array = (1.0 - heavy) * paces[0] + heavy * paces[1]
    return mixed


def _rising_mean(compute: Array) -> Array:
    means = compute.mean(axis=-1)
    rising = np.maximum.accumulate(np.maximum.accumulate(means, axis=1), axis=2)
    scaled: Array = compute * (rising / means)[..., None]
    return scaled


def _interpolate(values: Array, grid: Array, points: Array, *, axis: int) -> Array:
    """Piecewise linear along ``axis``: the first value below the grid, the last slope above it, at most to twice."""
    left, share = _places(points, grid)
    if len(grid) == 1:
        return np.take(values, left, axis=axis)
    share = share.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    low, high = np.take(values, left, axis=axis), np.take(values, left + 1, axis=axis)
    result: Array = low + share * (high - low)
    return result


def _places(points: Array, grid: Array) -> tuple[Indices, Array]:
    """The grid's point to the left, never the last, and how far it is from there to the next one."""
    if len(grid) == 1:
        return np.zeros(len(points), dtype=np.int64), np.zeros(len(points))
    points = np.clip(points, grid[0], MAXIMUM_EXTRAPOLATION * grid[-1])
    left = np.clip(np.searchsorted(grid, points, side="right") - 1, 0, len(grid) - 2)
    return left, (points - grid[left]) / (grid[left + 1] - grid[left])


def _residual(over_law: Array, sizes: Array, lengths: Array) -> float:
    """What interpolating the rows over their law misses: each inner one from its two neighbours, root mean square.

    Leaving a row out doubles the grid's step there, and the error of linear interpolation goes with the step's square:
    hence the quarter.
    """
    misses: list[float] = []
    for axis, grid in ((1, sizes), (2, lengths)):
        for i in range(1, len(grid) - 1):
            share = (grid[i] - grid[i - 1]) / (grid[i + 1] - grid[i - 1])
            low, middle, high = (np.take(over_law, j, axis=axis) for j in (i - 1, i, i + 1))
            misses += ((low + share * (high - low)) / middle - 1.0).ravel().tolist()
    return float(np.sqrt(np.mean(np.square(misses)))) / 4 if misses else 0.0


def heaviness(utilization: float) -> float:
    """0 (paced rows) up to half load, rising to 1 (saturated rows) at full load; in tenths, so that tables are kept."""
    return round(float(np.clip((utilization - PACED_UTILIZATION) / (1 - PACED_UTILIZATION), 0, 1)), 1)
