"""Traces of keys, and what a cache makes of them."""

from cachetools import Cache


def hits(cache: Cache[int, int], trace: list[int]) -> int:
    """How many of the trace's keys were there; the others are put in."""
    found = 0
    for key in trace:
        if key in cache:
            found += 1
            cache[key]
        else:
            cache[key] = 1
    return found
