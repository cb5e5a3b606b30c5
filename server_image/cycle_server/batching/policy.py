"""Pure decisions of dynamic batching. Times are seconds on one monotonic clock, given as arguments.

Earliest deadline first: with equal budgets that is first come, first served. A batch grows only while the earliest
deadline in it is still met, and closes early when waiting longer would break it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cycle_server.batching.cost import Cost


@dataclass(frozen=True)
class Limits:
    maximum_batch_size: int
    maximum_delay_seconds: float


@dataclass(frozen=True)
class Waiting:
    """What the policy needs to know of a waiting piece of work, which is never divided."""

    texts: int
    tokens: int
    arrival: float
    deadline: float


@dataclass(frozen=True)
class Decision:
    """Indices into the waiting list. ``take`` runs now; ``drop`` can't be in time any more; else wait."""

    take: tuple[int, ...] = ()
    drop: tuple[int, ...] = ()
    wait_until: float | None = None  # None: until something arrives


def decide(waiting: Sequence[Waiting], *, now: float, limits: Limits, cost: Cost) -> Decision:
    late = tuple(i for i, w in enumerate(waiting) if now + cost.seconds(tokens=w.tokens) > w.deadline)
    order = sorted(set(range(len(waiting))) - set(late), key=lambda i: (waiting[i].deadline, i))
    if not order:
        return Decision(drop=late)
    chosen, tokens = _grow(waiting, order, now=now, limits=limits, cost=cost)
    texts = sum(waiting[i].texts for i in chosen)
    if texts >= limits.maximum_batch_size or len(chosen) < len(order):
        return Decision(take=chosen, drop=late)
    oldest = min(waiting[i].arrival for i in chosen)
    latest_start = min(waiting[i].deadline for i in chosen) - cost.seconds(tokens=tokens)
    close_at = min(oldest + limits.maximum_delay_seconds, latest_start)
    if now >= close_at:
        return Decision(take=chosen, drop=late)
    return Decision(drop=late, wait_until=close_at)


def _grow(
    waiting: Sequence[Waiting], order: Sequence[int], *, now: float, limits: Limits, cost: Cost
) -> tuple[tuple[int, ...], int]:
    """The batch and its tokens. The first always fits; a later one must fit in size and break no deadline."""
    chosen = [order[0]]
    texts, tokens = waiting[order[0]].texts, waiting[order[0]].tokens
    earliest = waiting[order[0]].deadline
    for index in order[1:]:
        candidate = waiting[index]
        if texts >= limits.maximum_batch_size:
            break
        fits = texts + candidate.texts <= limits.maximum_batch_size
        if fits and now + cost.seconds(tokens=tokens + candidate.tokens) <= earliest:
            chosen.append(index)
            texts += candidate.texts
            tokens += candidate.tokens
    return tuple(chosen), tokens


def expected_finish(
    new: Waiting, waiting: Sequence[Waiting], *, now: float, busy_until: float, limits: Limits, cost: Cost
) -> float:
    """When ``new`` would be done, behind the running batch and everything with an earlier or equal deadline."""
    ahead = [w for w in waiting if w.deadline <= new.deadline]
    texts = sum(w.texts for w in ahead) + new.texts
    tokens = sum(w.tokens for w in ahead) + new.tokens
    batches = math.ceil(texts / limits.maximum_batch_size)
    return max(now, busy_until) + cost.seconds(tokens=tokens, batches=batches)
