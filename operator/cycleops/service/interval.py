"""One interval between two scrapes, as adaptation wants it: intervals follow each other, and nobody asking is a number.

Pure. Arrivals are the balancers' own; where none of them can be read, the sidecars' answers stand in. An interval in
which a pod that counts was not read from beginning to end is no measurement: half of the arrivals is not a quiet hour.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cycle_wire.buckets import TOKEN_BUCKETS
from cycleops.service.histograms import (
    ARRIVALS,
    COMPUTE_SUM,
    ERRORS,
    FAILED,
    LABELS,
    REJECTED,
    TOKENS,
    Counts,
    Happened,
    count_of,
    quantile,
)

BUCKETS = 64  # of labels: by index modulo this
_AT_THE_BUDGET = 1.0005  # bounds are written with four digits
_LENGTHS = len(TOKEN_BUCKETS) + 1  # and one for the longer ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """``arrivals`` without those refused with 4xx. ``late``: of the answered, after the budget. ``compute_seconds``:
    mean of those that were computed, None when none was.
    """

    ended_at: float
    seconds: float
    arrivals: int
    answered: int
    hits: int
    late: int
    refused: int
    computed: int
    compute_seconds: float | None
    ready_servers: int
    lengths: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()


def interval_of(
    happened: Happened, *, balancers: Collection[str], servers: Collection[str], budget_milliseconds: float
) -> Interval | None:
    """``balancers``, ``servers``: uids of the pods that are ready now. None when it is no measurement."""
    if not balancers:
        return None  # nobody can have asked, and nobody was counted
    counts = happened.counts
    by_balancers = ARRIVALS in counts
    if not happened.pods.issuperset(balancers if by_balancers else servers):
        return None
    answers = {outcome: c for (term, outcome), c in counts.items() if term == ("service" if by_balancers else "pod")}
    answered = sum(count_of(c) for c in answers.values())
    refused = count_of(counts.get(ERRORS if by_balancers else FAILED, {}))
    arrivals = answered + refused
    if by_balancers:
        arrivals = count_of(counts[ARRIVALS]) - count_of(counts.get(REJECTED, {}))
    computed = sum(count_of(c) for (term, _), c in counts.items() if term == "compute")
    seconds = sum(counts.get(COMPUTE_SUM, {}).values())
    bound = budget_milliseconds / 1000 * _AT_THE_BUDGET
    return Interval(
        ended_at=happened.ended_at,
        seconds=happened.ended_at - happened.began_at,
        arrivals=max(arrivals, 0),
        answered=answered,
        hits=count_of(answers.get("hit", {})),
        late=sum(round(n) for c in answers.values() for at, n in c.items() if at > bound),
        refused=refused,
        computed=computed,
        compute_seconds=seconds / computed if computed and seconds > 0 else None,
        ready_servers=len(servers),
        lengths=_lengths(counts.get(TOKENS, {})),
        labels=_labels(counts.get(LABELS, {})),
    )


def _lengths(counts: Counts) -> tuple[int, ...]:
    """By bucket; empty when the server doesn't count them or none came."""
    found = [round(counts[bound]) for bound in sorted(counts)]
    return tuple(found[:_LENGTHS]) if any(found) else ()


def length_at(lengths: tuple[int, ...], share: float) -> int | None:
    """Tokens that the ``share`` (0 to 1) of inputs is no longer than, by counts as in an interval: linear within a
    bucket, and of those beyond the last bound that bound. None when they were not counted in these buckets.
    """
    if len(lengths) != _LENGTHS:
        return None
    found = quantile(dict(zip((*TOKEN_BUCKETS, math.inf), lengths, strict=True)), share)
    return math.ceil(found) if found else None


def _labels(counts: Mapping[float, float]) -> tuple[int, ...]:
    if not any(counts.values()):
        return ()
    found = [0] * BUCKETS
    for index, count in counts.items():
        found[int(index) % BUCKETS] += round(count)
    return tuple(found)
