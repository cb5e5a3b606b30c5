"""A profile's histograms as quantiles, many at a time."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from cycle_wire.profile import GROWTH, MAXIMUM_BUCKET, Histogram

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
LEVELS = 256
# Seconds, the geometric middle of each bucket.
MIDDLES: Array = np.asarray(1e-6 * GROWTH ** (np.arange(MAXIMUM_BUCKET + 1) + 0.5), dtype=np.float64)
_SHARES = (np.arange(LEVELS) + 0.5) / LEVELS  # the middle of each level


def flat(histograms: Sequence[Histogram]) -> tuple[Array, Indices]:
    """Seconds and counts of all their buckets, one histogram after the other."""
    buckets = np.array([*chain.from_iterable(one.buckets for one in histograms)], dtype=np.int64)
    counts = np.array([*chain.from_iterable(one.counts for one in histograms)], dtype=np.int64)
    return MIDDLES[buckets], counts


def quantiles(histograms: Sequence[Histogram], shares: Array = _SHARES) -> Array:
    """[histogram, share] in seconds: the smallest bucket middle with at least this share at or below it.

    Each histogram must hold something.
    """
    values, counts = flat(histograms)
    seen = np.concatenate([[0], np.cumsum(counts)])
    ends = np.cumsum([len(one.buckets) for one in histograms])
    begins = np.concatenate([[0], ends[:-1]])
    targets = seen[begins][:, None] + shares * (seen[ends] - seen[begins])[:, None]
    found: Array = values[np.searchsorted(seen[1:], targets)]
    return found


def pooled(values: Array, counts: Array | Indices) -> Array:
    """Quantiles at LEVELS equally likely levels of values that occur so often, in any order. Zeros of nothing."""
    if not counts.sum():
        return np.zeros(LEVELS)
    order = np.argsort(values, kind="stable")
    seen = np.cumsum(counts[order])
    found: Array = values[order][np.searchsorted(seen, _SHARES * seen[-1])]
    return found


def levels(*histograms: Histogram) -> Array:
    """Quantiles of them together."""
    return pooled(*flat(histograms))
