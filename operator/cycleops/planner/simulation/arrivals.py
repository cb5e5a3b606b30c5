"""Gaps between requests with a mean of 1 (times are then in units of the mean gap), by their rhythm."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def gamma_gaps(*, stream: np.random.Generator, count: int, cv2: float) -> Array:
    """Independent, with this squared coefficient of variation: 1 is Poisson, 0 a metronome."""
    if cv2 == 0:
        return np.ones(count)
    return _scaled(stream.standard_gamma(1 / cv2, count) * cv2)


def burst_gaps(
    *, stream: np.random.Generator, count: int, rate_ratio: float, burst_share: float, burst_requests: float
) -> Array:
    """A Markov-modulated Poisson process of two states. In bursts, which are ``burst_share`` of the time, requests come
    ``rate_ratio`` times as fast as else; a burst lasts, in the mean, as long as ``burst_requests`` mean gaps.

    Source: W. Fischer, K. Meier-Hellstern, The Markov-modulated Poisson process cookbook, 1993.
    """
    quiet_rate = 1 / (1 - burst_share + rate_ratio * burst_share)
    means = np.array([burst_requests * (1 - burst_share) / burst_share, burst_requests])
    rates = np.array([quiet_rate, rate_ratio * quiet_rate])
    times: list[Array] = []
    known, begin = 0, 0.0
    while known <= count:  # until there are enough, some hundred phases at a time
        length = (stream.standard_exponential((256, 2)) * means).ravel()
        numbers = stream.poisson(length * np.tile(rates, 256))
        starts = begin + np.concatenate(([0.0], np.cumsum(length[:-1])))
        inside = np.repeat(starts, numbers) + np.repeat(length, numbers) * stream.random(numbers.sum())
        times.append(np.sort(inside))
        begin, known = begin + float(length.sum()), known + len(inside)
    return _scaled(np.diff(np.concatenate(times)[: count + 1]))


def recorded_gaps(*, gaps: Sequence[float] | Array, count: int) -> Array:
    """The recorded rhythm from its start, again from there when it is over. Raises ValueError when it is empty."""
    recorded = np.asarray(gaps, dtype=np.float64)
    if not len(recorded) or not recorded.sum() > 0 or (recorded < 0).any():
        raise ValueError("a recorded trace needs gaps of 0 or more that are not all 0")
    return _scaled(np.resize(recorded, count))


def _scaled(gaps: Array) -> Array:
    scaled: Array = gaps / gaps.mean()  # the drawn rate is then exactly the declared one
    return scaled
