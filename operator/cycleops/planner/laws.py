"""The article's three functions, fitted from profile rows: t_pre = f(input), t_compute = g(...), t_post = f(output).

Each is a sum of known terms with coefficients of 0 or more (no work takes less than no time), fitted to *relative*
errors, since a row of 2 ms and one of 200 ms count alike. The residual is the root mean square of those errors.

    t_pre(n)              = a + b n                                    n: tokens of the input
    t_compute(p, B, n, h) = c0 + c1 B + c2 p B n + c3 B n^2            B: batch, p: parameters; the c are the hardware's
    t_post(m)             = a + b m                                    m: size of the output

c0 is what a call costs, c1 an input, c2 a multiplication of the dense layers, c3 of attention.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cycle_wire.profile import Pace, Profile, ProfileRow

Array = NDArray[np.float64]
ComputeRow = tuple[int, int, int, float]  # parameters, batch size, tokens of an input, mean seconds


@dataclass(frozen=True, kw_only=True)
class Law:
    """``coefficients`` in seconds per unit of each term. ``residual``: relative; ``rows``: behind the fit."""

    coefficients: tuple[float, ...]
    residual: float
    rows: int


@dataclass(frozen=True, kw_only=True)
class Line(Law):
    """Seconds by size: ``coefficients`` are the constant and the slope."""

    def seconds(self, size: ArrayLike) -> Array:
        seconds: Array = _line(np.asarray(size, dtype=float)) @ np.array(self.coefficients)
        return seconds

    def size_of(self, seconds: float) -> float | None:
        """The size that takes so long: what drifted inputs have become. None where time does not go with size."""
        constant, slope = self.coefficients
        return (seconds - constant) / slope if slope > 0 else None


@dataclass(frozen=True, kw_only=True)
class ComputeLaw(Law):
    """Seconds of a batch: per call, per input, per parameter and token, per pair of tokens of an input."""

    def seconds(self, *, parameters: ArrayLike, batch_size: ArrayLike, tokens: ArrayLike) -> Array:
        """``tokens``: of one input of the batch, in the mean. Arguments are broadcast."""
        seconds: Array = _compute(parameters, batch_size, tokens) @ np.array(self.coefficients)
        return seconds


@dataclass(frozen=True, kw_only=True)
class Laws:
    """Of one profile, from its paced rows."""

    pre: Line
    compute: ComputeLaw
    post: Line


def fit_profile(profile: Profile, *, output_size: float = 1.0) -> Laws:
    """Raises ValueError when the profile has no rows with times. ``output_size`` of each answer, in any unit."""
    timed = [row for row in profile.rows if row.compute.count]
    rows = [row for row in timed if row.pace is Pace.PACED] or timed
    if not rows:
        raise ValueError("a profile without rows has no law")
    with_pre, with_post = ([row for row in rows if getattr(row, term).count] for term in ("pre", "post"))
    return Laws(
        pre=fit_line([(row.sequence_length, row.pre.mean_seconds()) for row in with_pre]),
        compute=fit_compute(rows_of(profile, rows)),
        post=fit_line([(output_size, row.post.mean_seconds()) for row in with_post]),
    )


def fit_line(points: Sequence[tuple[float, float]]) -> Line:
    """Through (size, seconds). Without points, nothing takes no time."""
    if not points:
        return Line(coefficients=(0.0, 0.0), residual=0.0, rows=0)
    sizes, seconds = np.array(points, dtype=float).T
    coefficients, residual = non_negative_fit(_line(sizes), seconds)
    return Line(coefficients=coefficients, residual=residual, rows=len(points))


def rows_of(profile: Profile, rows: Iterable[ProfileRow]) -> list[ComputeRow]:
    return [(profile.parameters, row.batch_size, row.sequence_length, row.compute.mean_seconds()) for row in rows]


def fit_compute(rows: Sequence[ComputeRow]) -> ComputeLaw:
    """Of one variant; or across several that one engine runs in one format on one hardware."""
    parameters, sizes, tokens, seconds = np.array(rows, dtype=float).T
    coefficients, residual = non_negative_fit(_compute(parameters, sizes, tokens), seconds)
    return ComputeLaw(coefficients=coefficients, residual=residual, rows=len(rows))


def non_negative_fit(terms: Array, seconds: Array) -> tuple[tuple[float, ...], float]:
    """Non-negative least squares of relative errors, and their root mean square; ``terms``: [row, term].

    Exact: with at most four terms, every set of those that are not 0 is tried, and the best that is non-negative wins
    (one of them is the optimum: C. Lawson, R. Hanson, Solving Least Squares Problems, chapter 23).
    """
    relative = terms / seconds[:, None]
    scale = np.maximum(np.abs(relative).max(axis=0), 1e-300)  # so that terms of all sizes are solved alike
    relative = relative / scale
    best, least = np.zeros(terms.shape[1]), np.inf
    for count in range(1, terms.shape[1] + 1):
        for chosen in itertools.combinations(range(terms.shape[1]), count):
            solution = np.linalg.lstsq(relative[:, chosen], np.ones(len(seconds)), rcond=None)[0]
            error = float(np.sqrt(np.mean((relative[:, chosen] @ solution - 1.0) ** 2)))
            # More terms must be better by more than rounding, or a law of few rows would have them for nothing.
            if (solution >= 0).all() and error < least * (1 - 1e-9) - 1e-12:
                best, least = np.zeros(terms.shape[1]), error
                best[list(chosen)] = solution
    return tuple((best / scale).tolist()), least


def _line(sizes: Array) -> Array:
    return np.stack([np.ones_like(sizes), sizes], axis=-1)


def _compute(parameters: ArrayLike, batch_size: ArrayLike, tokens: ArrayLike) -> Array:
    p, b, n = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (parameters, batch_size, tokens)))
    p = np.maximum(p, 1.0)  # unknown parameters are 0; the term is then simply per token
    return np.stack([np.ones_like(b), b, p * b * n, b * n * n], axis=-1)
