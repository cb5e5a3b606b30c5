"""A profile's rows of generation as functions: prefill by prompt, step by sequences that run and their length.

At a row stands what was measured; between rows, the law times what was measured over it, linearly (as
``planner.service_time`` does for batches). Luck is relative: the shape of all rows of a term together. More sequences
than were measured are never planned; longer ones only in the tail that ``prepare`` lets pass.
"""

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cycle_wire.profile import GenerationRow, Histogram, Profile
from cycleops.planner.generation.laws import Polynomial, StepLaw, fit_polynomial, fit_step
from cycleops.planner.generation.rules import Steps
from cycleops.planner.histograms import LEVELS, flat, levels, pooled
from cycleops.planner.model import PROMPT_TOKENS_PER_STEP
from cycleops.planner.service_time import IncompleteProfileError

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
PLACES = 64  # of mean context in the table of steps
LUCK = 1 << 16  # steps until luck repeats


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Seconds by size. ``over_law``: what was measured over the law; ``shape``: relative quantiles, mean 1."""

    sizes: Array
    over_law: Array
    law: Polynomial
    shape: Array

    def mean(self, sizes: ArrayLike) -> Array:
        """Below the smallest measured size, its time; beyond the largest, the law goes on."""
        at_least = np.maximum(np.asarray(sizes, dtype=float), self.sizes[0])
        mean: Array = self.law.seconds(at_least) * np.interp(at_least, self.sizes, self.over_law)
        return mean

    def seconds(self, sizes: ArrayLike, levels: Indices) -> Array:
        """``levels``: the luck of each, 0 to LEVELS - 1."""
        seconds: Array = self.mean(sizes) * self.shape[levels]
        return seconds

    @property
    def residual(self) -> float:
        return rms(inner_misses(self.sizes, self.over_law)) / 4


@dataclass(frozen=True, kw_only=True)
class GenerationTimes:
    """``contexts[i]``, ``over_law[i]``: at ``concurrencies[i]``, by mean tokens of a sequence under way."""

    concurrencies: tuple[int, ...]
    longest_prompt: int
    longest_context: int  # prompt and answer
    law: StepLaw
    contexts: tuple[Array, ...]
    over_law: tuple[Array, ...]
    step_shape: Array
    prefill: Curve
    pre: Curve
    post: Curve
    overhead: Array  # level
    cache_hit: Array  # level
    step_residual: float

    def step_seconds(self, *, running: ArrayLike, context: ArrayLike) -> Array:
        """Mean of a step; arguments are broadcast. ``running``: at most the largest measured concurrency."""
        k, x = np.broadcast_arrays(np.asarray(running, dtype=float), np.asarray(context, dtype=float))
        grid = np.array(self.concurrencies, dtype=float)
        left = np.clip(np.searchsorted(grid, k, side="right") - 1, 0, max(len(grid) - 2, 0))
        right = np.minimum(left + 1, len(grid) - 1)
        by_row = np.array([np.interp(x, *both) for both in zip(self.contexts, self.over_law, strict=True)])
        low, high = (np.take_along_axis(by_row, side[None], axis=0)[0] for side in (left, right))
        share = np.where(right > left, (k - grid[left]) / np.maximum(grid[right] - grid[left], 1.0), 0.0)
        seconds: Array = (low + np.clip(share, 0.0, 1.0) * (high - low)) * self.law.seconds(running=k, context=x)
        return seconds

    def steps(self, *, most_sequences: int, longest: float, seed: int) -> Steps:
        """For the simulation, up to so many sequences with so many tokens."""
        contexts = np.linspace(0.0, max(longest, 1.0), PLACES)
        running = np.maximum(np.arange(most_sequences + 1), 1)
        table = self.step_seconds(running=running[:, None], context=contexts[None, :])
        luck = np.random.default_rng(seed).choice(self.step_shape, LUCK)
        return Steps(
            seconds=np.ascontiguousarray(table), width=float(contexts[1]), luck=luck, shared=self.law.coefficients[0]
        )

    @property
    def residual(self) -> float:
        """Relative error of interpolating, of prefill and step together."""
        return float(np.hypot(self.prefill.residual, self.step_residual))


_REMEMBERED: dict[int, GenerationTimes] = {}


def remembered_generation_times(profile: Profile) -> GenerationTimes:
    """As :func:`generation_times`, once in the life of a profile, which never changes."""
    known = _REMEMBERED.get(id(profile))
    if known is None:
        known = _REMEMBERED[id(profile)] = generation_times(profile)
        weakref.finalize(profile, _REMEMBERED.pop, id(profile), None)
    return known


def generation_times(profile: Profile) -> GenerationTimes:
    """Raises :class:`IncompleteProfileError`."""
    rows = [row for row in profile.generation if row.first_token.count and row.per_token.count]
    alone = [row for row in rows if row.concurrency == 1]
    if not alone:
        raise IncompleteProfileError("it has no row of generation with concurrency 1")
    means = _rising(rows)
    law = fit_step([(row.concurrency, context_of(row), mean) for row, mean in zip(rows, means, strict=True)])
    concurrencies = tuple(sorted({row.concurrency for row in rows}))
    contexts, over_law = [], []
    for concurrency in concurrencies:
        points = [
            (context_of(row), mean) for row, mean in zip(rows, means, strict=True) if row.concurrency == concurrency
        ]
        xs, ys = _by_size(points)
        contexts.append(xs)
        over_law.append(ys / law.seconds(running=concurrency, context=xs))
    return GenerationTimes(
        concurrencies=concurrencies,
        longest_prompt=max(row.prompt_tokens for row in rows),
        longest_context=max(row.prompt_tokens + row.output_tokens for row in rows),
        law=law,
        contexts=tuple(contexts),
        over_law=tuple(over_law),
        step_shape=shape_of([row.per_token for row in alone]),
        prefill=_curve(alone, lambda row: row.prompt_tokens, lambda row: row.first_token, degree=2),
        pre=_curve(rows, lambda row: row.prompt_tokens, lambda row: row.pre, degree=1),
        post=_curve(rows, lambda row: row.output_tokens, lambda row: row.post, degree=1),
        overhead=levels(profile.overhead),
        cache_hit=levels(profile.cache_hit),
        step_residual=_step_residual(concurrencies, contexts, over_law),
    )


def context_of(row: GenerationRow) -> float:
    """Mean tokens of a sequence while it runs: its prompt, and half of its answer."""
    return row.prompt_tokens + row.output_tokens / 2


def step_mean_seconds(row: GenerationRow) -> float:
    """Mean of the steps that only decode.

    The gaps between tokens are those of steps, and while other sequences come and go, some of these steps computed a
    part of a prompt too: while one of ``output_tokens`` is answered, each of the others joins once, in as many steps as
    its prompt has parts. These are the longest gaps, so that share of them is left out, at most a half.
    """
    parts = -(-row.prompt_tokens // PROMPT_TOKENS_PER_STEP)
    shared = min((row.concurrency - 1) * parts / row.output_tokens, 0.5)
    counts = np.array(row.per_token.counts, dtype=float)
    kept = np.diff(np.minimum(np.cumsum(counts), (1 - shared) * counts.sum()), prepend=0.0)
    return float(kept @ flat([row.per_token])[0] / kept.sum())


def _rising(rows: Sequence[GenerationRow]) -> list[float]:
    """Mean seconds of a step; no less than with fewer sequences of the same lengths, since less would be noise."""
    means = {(row.concurrency, row.prompt_tokens, row.output_tokens): step_mean_seconds(row) for row in rows}
    return [
        max(
            mean
            for (concurrency, *lengths), mean in means.items()
            if concurrency <= row.concurrency and lengths == [row.prompt_tokens, row.output_tokens]
        )
        for row in rows
    ]


def _curve(
    rows: Sequence[GenerationRow],
    size: Callable[[GenerationRow], int],
    term: Callable[[GenerationRow], Histogram],
    *,
    degree: int,
) -> Curve:
    timed = [row for row in rows if term(row).count]
    if not timed:  # nothing takes no time
        law = Polynomial(coefficients=(0.0,), residual=0.0, rows=0)
        return Curve(sizes=np.ones(1), over_law=np.ones(1), law=law, shape=np.ones(LEVELS))
    sizes, means = _by_size([(float(size(row)), term(row).mean_seconds()) for row in timed])
    law = fit_polynomial(list(zip(sizes.tolist(), means.tolist(), strict=True)), degree=degree)
    shape = shape_of([term(row) for row in timed])
    return Curve(sizes=sizes, over_law=means / law.seconds(sizes), law=law, shape=shape)


def _by_size(points: Iterable[tuple[float, float]]) -> tuple[Array, Array]:
    """Rising sizes, and the mean of what was measured at each."""
    together: dict[float, list[float]] = {}
    for size, value in points:
        together.setdefault(size, []).append(value)
    sizes = sorted(together)
    return np.array(sizes), np.array([np.mean(together[size]) for size in sizes])


def shape_of(histograms: Sequence[Histogram]) -> Array:
    """Quantiles at LEVELS equally likely levels, each relative to its row's mean; their mean is 1."""
    values, counts = flat(histograms)
    means = np.repeat([one.mean_seconds() for one in histograms], [len(one.buckets) for one in histograms])
    quantiles = pooled(values / means, counts)
    shape: Array = quantiles / quantiles.mean()
    return shape


def inner_misses(points: Array, values: Array) -> list[float]:
    """What interpolating from its two neighbours misses of each inner point, relatively."""
    found = []
    for i in range(1, len(points) - 1):
        share = (points[i] - points[i - 1]) / (points[i + 1] - points[i - 1])
        found.append(float((values[i - 1] + share * (values[i + 1] - values[i - 1])) / values[i] - 1.0))
    return found


def rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values else 0.0


def _step_residual(concurrencies: Sequence[int], contexts: Sequence[Array], over_law: Sequence[Array]) -> float:
    """Each inner row from its neighbours; a quarter, since leaving a row out doubles the step (see service_time)."""
    misses = [miss for xs, ys in zip(contexts, over_law, strict=True) for miss in inner_misses(xs, ys)]
    shared = sorted(set.intersection(*({float(x) for x in xs} for xs in contexts)))
    for x in shared:
        at_x = np.array([np.interp(x, *both) for both in zip(contexts, over_law, strict=True)])
        misses += inner_misses(np.array(concurrencies, dtype=float), at_x)
    return rms(misses) / 4
