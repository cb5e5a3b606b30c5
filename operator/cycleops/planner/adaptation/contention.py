"""Late answers that neither rate nor compute explains: pods carry fewer requests than the profile says.

Compute may be as profiled and T not: HTTP that gets no CPU beside a neighbour, a slow network. The table says which
share is in time at a rate; when many more are late, window after window, the rate counts ``factor`` times from then on:
as often as makes the table say what was measured. So more replicas are asked for where they help, under load, and none
where an idle service is late. Windows that are in time again where the factor says otherwise take it back by halves
(of its logarithm), and time does where they say nothing.
"""

import math
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

BOUND = 2.5
BELIEVE_AFTER = 4  # windows in a row: a backlog that is worked off, or a start, takes one or two
FORGET_SECONDS = 3600.0
_DEVIATIONS = 4.0  # of a count, beyond which it is no chance
_STEADY = 0.25  # a window whose rate is that far from the level is no steady state, which the table is about
_STEPS = 20  # of the bisection: to a millionth


class Contention(BaseModel):
    """``factor``: by which the rate counts. ``windows``: in a row that were not explained."""

    model_config = ConfigDict(frozen=True)

    factor: float = Field(default=1.0, ge=1, le=BOUND)
    windows: int = Field(default=0, ge=0)


def contend(
    before: Contention,
    *,
    requests: int,
    late: int,
    allowed: float,
    elapsed_seconds: float,
    late_share_at: Callable[[float], float],
) -> Contention:
    """Takes in a window of steady state. ``late``: of the ``requests``, refused ones included. ``allowed``: share.

    ``late_share_at``: what the table expects when the rate counts so many times; rises.
    """
    if late > _most(requests, max(late_share_at(before.factor), allowed)):
        windows = before.windows + 1
        if windows < BELIEVE_AFTER:
            return before.model_copy(update={"windows": windows})
        return Contention(factor=_explaining(late / requests, before.factor, late_share_at), windows=windows)
    eased = math.log(before.factor) * math.exp(-elapsed_seconds / FORGET_SECONDS)
    if late < _least(requests, late_share_at(before.factor)):
        eased = min(eased, math.log(before.factor) / 2)
    return Contention(factor=math.exp(eased))


def steady(*, rate_per_second: float, level_per_second: float) -> bool:
    """``level_per_second``: of the windows before."""
    return abs(rate_per_second - level_per_second) <= _STEADY * level_per_second


def _most(requests: int, share: float) -> float:
    return requests * share + _DEVIATIONS * math.sqrt(requests * share * (1 - share))


def _least(requests: int, share: float) -> float:
    return requests * share - _DEVIATIONS * math.sqrt(requests * share * (1 - share))


def _explaining(share: float, least: float, late_share_at: Callable[[float], float]) -> float:
    """The smallest factor from ``least`` on at which so many are late; BOUND when none is."""
    if late_share_at(BOUND) < share:
        return BOUND
    low, high = least, BOUND
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if late_share_at(middle) >= share else (middle, high)
    return high
