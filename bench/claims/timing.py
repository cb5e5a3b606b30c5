"""T of two engines side by side: they take turns, A B B A, so that a disturbance of the machine falls on both."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Call = Callable[[int], object]
RESAMPLED = 2000


@dataclass(frozen=True)
class Paired:
    """``change``: of the mean T, the other's over the base's less 1, with the 95 % interval of the rounds' ratio."""

    base_ms: float
    other_ms: float
    change: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        return (
            f"T {self.base_ms:.2f} -> {self.other_ms:.2f} ms, {self.change:+.0%} ({self.low:+.0%} to {self.high:+.0%})"
        )


def paired(base: Call, other: Call, *, calls: int, seconds: float) -> Paired:
    """Rounds of ``calls`` calls of each, for ``seconds``; at least four. A call gets its number."""
    for warm in (base, other):
        _mean(warm, range(calls))
    rounds: list[tuple[float, float]] = []
    until = time.perf_counter() + seconds
    while len(rounds) < 4 or time.perf_counter() < until:
        numbers = range(len(rounds) * calls, (len(rounds) + 1) * calls)
        if len(rounds) % 2:
            second = _mean(other, numbers)
            rounds.append((_mean(base, numbers), second))
        else:
            first = _mean(base, numbers)
            rounds.append((first, _mean(other, numbers)))
    return summary(rounds)


def summary(rounds: Sequence[tuple[float, float]]) -> Paired:
    """Of rounds of (base, other), each a mean in seconds. The interval: bootstrap over the rounds, fixed seed."""
    ratios = np.array([other / base for base, other in rounds])
    draws = np.random.default_rng(0).choice(ratios, size=(RESAMPLED, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return Paired(
        base_ms=1000 * statistics.median(base for base, _ in rounds),
        other_ms=1000 * statistics.median(other for _, other in rounds),
        change=float(np.median(ratios)) - 1,
        low=float(low) - 1,
        high=float(high) - 1,
        rounds=len(rounds),
    )


def _mean(call: Call, numbers: Sequence[int]) -> float:
    started = time.perf_counter()
    for number in numbers:
        call(number)
    return (time.perf_counter() - started) / len(numbers)
