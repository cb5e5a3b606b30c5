"""A profile as quantile functions: pre, compute, post, overhead of a request or batch of any length.

Every term is kept as its quantiles at LEVELS equally likely levels, because quantiles can be interpolated between
measured rows level by level (the interpolated distribution keeps the shape of its neighbours) while histograms can't.
Between rows the compute time is the fitted law (laws.py) times what was measured over it, and that ratio is piecewise
linear in sequence length and in batch size: at a row it is what was measured, between rows it bends as the law does.
Where the law does not fit (residual above LAW_TRUSTED_TO) the time itself is piecewise linear. The rows' means are made
to never fall when length or batch grows, since a fall is noise. Below the shortest measured length its time is used;
above the longest, the law goes on (or the last slope), and the search refuses workloads in which that would matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cycle_wire.profile import Histogram, Pace, Profile, ProfileRow
from cycleops.planner.histograms import LEVELS, flat, levels, pooled, quantiles
from cycleops.planner.laws import ComputeLaw, fit_compute
from cycleops.planner.simulation.rules import Table

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
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
        means: Array = self._of_batch(self._over_law_mean, batch_size, lengths, heavy)[:, 0]
        return means

    def compute_quantiles(self, *, batch_size: int, lengths: Array, heavy: float) -> Array:
        """Compute of a batch: [mean length of its inputs, level] in seconds."""
        return self._of_batch(self._over_law, batch_size, lengths, heavy)

    def _of_batch(self, over_law: Array, batch_size: int, lengths: Array, heavy: float) -> Array:
        """[mean length of its inputs, level] in seconds."""
        sizes = np.array([float(batch_size)])
        by_length = np.tensordot(_weights(sizes, self.batch_sizes)[0], _blend(over_law, heavy), axes=1)
        seconds: Array = self._by_length(by_length, lengths) * self._law(sizes, lengths)[0][:, None]
        return seconds

    def table(self, *, lengths: Array, bucket_of: Indices, maximum_batch: int, heavy: float) -> Table:
        """For the simulation: batches of any size up to this, with ``lengths`` the mean tokens of each bucket."""
        sizes = np.arange(maximum_batch + 1, dtype=float)
        left, share = _places(sizes, np.array(self.batch_sizes, dtype=float))
        return Table(
            ratio=self._by_length(_blend(self._over_law, heavy), lengths),
            law=self._law(np.maximum(sizes, 1.0), lengths),
            left=left,
            share=share,
            bucket_of=bucket_of,
        )

    def pre_table(self, *, lengths: Array, heavy: float) -> Array:
        """Pre of one request: [length, level] in seconds."""
        pre: Array = _weights(lengths, self.lengths) @ _blend(self.pre, heavy)
        return pre

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

    def _by_length(self, over_law: Array, lengths: Array) -> Array:
        """From [..., measured length, level] to [..., length, level]."""
        if self.law is not None:
            lengths = np.minimum(lengths, self.lengths[-1])  # beyond, the law alone goes on
        ratio: Array = _weights(lengths, self.lengths) @ over_law
        return ratio

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
    by_pace = [{length: _at(cells, pace, length) for length in lengths} for pace in Pace]
    law = _law(profile, compute[0].mean(axis=-1), sizes, lengths)
    bare = ServiceTimes(
        batch_sizes=sizes,
        lengths=lengths,
        compute=compute,
        law=law,
        parameters=profile.parameters,
        pre=np.array([[levels(*(row.pre for row in at[n])) for n in lengths] for at in by_pace]),
        post=np.array([levels(*(row.post for n in lengths for row in at[n])) for at in by_pace]),
        overhead=levels(profile.overhead),
        cache_hit=levels(profile.cache_hit),
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


def _with_pooled_tails(rows: Sequence[Sequence[Histogram]]) -> Array:
    """Quantiles of each row: [batch size, length, level].

    A row has tens of samples, and a 99th percentile needs hundreds. So the shape around the median is shared: each
    row's own quantiles count with the weight n / (n + POOLING), and the rest is its median times the shape of all rows
    together. That takes disturbances to be relative to the time they disturb.
    """
    every = [histogram for row in rows for histogram in row]
    own, medians = quantiles(every), quantiles(every, np.array([0.5]))
    values, counts = flat(every)
    shape = pooled(values / np.repeat(medians, [len(one.buckets) for one in every]), counts)
    weights = np.array([one.count / (one.count + POOLING) for one in every])[:, None]
    mixed: Array = weights * own + (1 - weights) * medians * shape
    return mixed.reshape(len(rows), len(rows[0]), LEVELS)


def _blend(paces: Array, heavy: float) -> Array:
    """0: paced; 1: saturated."""
    mixed: Array = (1.0 - heavy) * paces[0] + heavy * paces[1]
    return mixed


def _rising_mean(compute: Array) -> Array:
    means = compute.mean(axis=-1)
    rising = np.maximum.accumulate(np.maximum.accumulate(means, axis=1), axis=2)
    scaled: Array = compute * (rising / means)[..., None]
    return scaled


def _weights(points: Array, grid: Sequence[int]) -> Array:
    """[point, place of the grid]: what each value on the grid counts at a point, piecewise linearly between them.

    Below the grid it is the first value; above it the last slope goes on, at most to twice the grid's end.
    """
    left, share = _places(points, np.array(grid, dtype=float))
    weights, which = np.zeros((len(points), len(grid))), np.arange(len(points))
    weights[which, left] = 1.0 - share
    if len(grid) > 1:
        weights[which, left + 1] = share
    return weights


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
