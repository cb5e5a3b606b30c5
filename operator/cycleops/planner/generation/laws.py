"""Laws of generation, fitted from profile rows as ``planner.laws`` does: no negative terms, relative errors.

    t_prefill(n)  = a + b n + c n^2          n: tokens of the prompt; c n^2 is attention
    t_step(k, x)  = s0 + s1 k + s2 k x       k: sequences that run, x: their mean length so far

s0 reads the weights once for all, s1 is each sequence's own work, s2 reads the keys and values that it has so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cycleops.planner.laws import Law, non_negative_fit

Array = NDArray[np.float64]
StepRow = tuple[float, float, float]  # sequences that run, their mean length in tokens, seconds of a step


@dataclass(frozen=True, kw_only=True)
class Polynomial(Law):
    """Seconds by size: ``coefficients`` from the constant upwards."""

    def seconds(self, size: ArrayLike) -> Array:
        seconds: Array = _powers(np.asarray(size, dtype=float), len(self.coefficients)) @ np.array(self.coefficients)
        return seconds


@dataclass(frozen=True, kw_only=True)
class StepLaw(Law):
    """Seconds of a step: a constant, per sequence, per sequence and token of its length."""

    def seconds(self, *, running: ArrayLike, context: ArrayLike) -> Array:
        """Arguments are broadcast."""
        seconds: Array = _step(running, context) @ np.array(self.coefficients)
        return seconds


def fit_polynomial(points: Sequence[tuple[float, float]], *, degree: int) -> Polynomial:
    """Through (size, seconds); at least one point."""
    sizes, seconds = np.array(points, dtype=float).T
    coefficients, residual = non_negative_fit(_powers(sizes, degree + 1), seconds)
    return Polynomial(coefficients=coefficients, residual=residual, rows=len(points))


def fit_step(rows: Sequence[StepRow]) -> StepLaw:
    running, context, seconds = np.array(rows, dtype=float).T
    coefficients, residual = non_negative_fit(_step(running, context), seconds)
    return StepLaw(coefficients=coefficients, residual=residual, rows=len(rows))


def _powers(sizes: Array, count: int) -> Array:
    return np.stack([sizes**power for power in range(count)], axis=-1)


def _step(running: ArrayLike, context: ArrayLike) -> Array:
    k, x = np.broadcast_arrays(np.asarray(running, dtype=float), np.asarray(context, dtype=float))
    return np.stack([np.ones_like(k), k, k * x], axis=-1)
