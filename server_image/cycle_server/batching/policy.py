"""Pure decisions of dynamic batching. Times are seconds on one monotonic clock, given as arguments.

Work runs in the order of its ``turn`` (fairness.py): first come, first served within a tenant and priority class, by
turns between them. Where that order would miss a deadline that the earliest-deadline-first order meets, the latter is
taken: it meets every deadline whenever any order does (Liu and Layland 1973, for one machine). A batch grows only while
the earliest deadline in it is still met, and closes early when waiting longer would break it.

Several threads may take from one queue. ``free`` says when each could start its next batch; what waits is then counted
as batches of equal length, each on the thread that is free first (list scheduling, Graham 1966).
"""

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from cycle_server.batching.cost import Cost


class Priority(IntEnum):
    """Who waits for the answer: a person, or a program that has time."""

    INTERACTIVE = 0
    BATCH = 1


# Shares of the compute thread while both wait. A ninth is enough that work with time on its hands never starves.
WEIGHTS = {Priority.INTERACTIVE: 8.0, Priority.BATCH: 1.0}


@dataclass(frozen=True)
class Flow:
    """Whose work it is. When there is more than can be done, each gets its share by weight."""

    priority: Priority = Priority.INTERACTIVE
    tenant: str = ""

    @property
    def weight(self) -> float:
        return WEIGHTS[self.priority]


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
    turn: float = 0.0
    flow: Flow = Flow()


@dataclass(frozen=True)
class Decision:
    """Indices into the waiting list. ``take`` runs now; ``drop`` can't be in time any more; else wait."""

    take: tuple[int, ...] = ()
    drop: tuple[int, ...] = ()
    wait_until: float | None = None  # None: until something arrives


def decide(
    waiting: Sequence[Waiting], *, now: float, limits: Limits, cost: Cost, others: Sequence[float] = ()
) -> Decision:
    """For a thread that could start now; ``others``: when each of the other threads could start its next batch."""
    late = tuple(i for i, w in enumerate(waiting) if now + cost.seconds(tokens=w.tokens) > w.deadline)
    rest = sorted(set(range(len(waiting))) - set(late), key=lambda i: (waiting[i].turn, i))
    if not rest:
        return Decision(drop=late)
    chosen, tokens = _choose(waiting, rest, now=now, limits=limits, cost=cost, others=others)
    full = sum(waiting[i].texts for i in chosen) >= limits.maximum_batch_size
    if full or len(chosen) < len(rest):  # the thread isn't idle while something waits that may not join
        return Decision(take=chosen, drop=late)
    oldest = min(waiting[i].arrival for i in chosen)
    earliest = min(waiting[i].deadline for i in chosen)
    close_at = min(oldest + limits.maximum_delay_seconds, earliest - cost.cautious_seconds(tokens=tokens))
    if now >= close_at:
        return Decision(take=chosen, drop=late)
    return Decision(drop=late, wait_until=close_at)


def _choose(
    waiting: Sequence[Waiting],
    turns: Sequence[int],
    *,
    now: float,
    limits: Limits,
    cost: Cost,
    others: Sequence[float],
) -> tuple[tuple[int, ...], int]:
    """By turns, unless that misses a deadline which the order by deadlines would meet."""
    chosen, tokens = _grow(waiting, turns, now=now, limits=limits, cost=cost, apart=True)
    by_deadline = sorted(turns, key=lambda i: waiting[i].deadline)  # stable: equal deadlines keep their turns
    if by_deadline == list(turns) and len({waiting[i].flow.priority for i in turns}) == 1:
        return chosen, tokens
    left = [waiting[i] for i in by_deadline if i not in chosen]
    if _in_time(left, free=[now + cost.seconds(tokens=tokens), *others], limits=limits, cost=cost):
        return chosen, tokens
    if not _in_time([waiting[i] for i in by_deadline], free=[now, *others], limits=limits, cost=cost):
        return chosen, tokens  # overload: no order meets all deadlines, so the harm is shared fairly
    filled, tokens = _grow(waiting, by_deadline, now=now, limits=limits, cost=cost, apart=False)
    left = [waiting[i] for i in by_deadline if i not in filled]
    if _in_time(left, free=[now + cost.seconds(tokens=tokens), *others], limits=limits, cost=cost):
        return filled, tokens
    # Filled past one that didn't fit, it makes that one late: take no more than what comes before it.
    ahead = list(itertools.takewhile(filled.__contains__, by_deadline))
    return tuple(ahead), sum(waiting[i].tokens for i in ahead)


def _in_time(order: Sequence[Waiting], *, free: Sequence[float], limits: Limits, cost: Cost) -> bool:
    """True when all would meet their deadlines, one after the other, in batches as full as can be."""
    texts = tokens = 0
    for piece in order:
        texts += piece.texts
        tokens += piece.tokens
        if _finish(free, texts=texts, tokens=tokens, limits=limits, cost=cost) > piece.deadline:
            return False
    return True


def _finish(free: Sequence[float], *, texts: int, tokens: int, limits: Limits, cost: Cost) -> float:
    """When the last of so many texts would be done."""
    batches = math.ceil(texts / limits.maximum_batch_size)
    seconds = cost.seconds(tokens=tokens, batches=batches)
    if len(free) == 1:
        return free[0] + seconds
    threads, last = list(free), 0.0
    heapq.heapify(threads)
    for _ in range(batches):
        last = threads[0] + seconds / batches
        heapq.heapreplace(threads, last)
    return last


def _grow(
    waiting: Sequence[Waiting], order: Sequence[int], *, now: float, limits: Limits, cost: Cost, apart: bool
) -> tuple[tuple[int, ...], int]:
    """The batch and its tokens. The first always fits; a later one must fit in size and break no deadline.

    ``apart``: work that has time doesn't join a batch that somebody waits for, which would take longer with it.
    """
    first = waiting[order[0]]
    chosen, texts, tokens, earliest = [order[0]], first.texts, first.tokens, first.deadline
    for index in order[1:]:
        if texts >= limits.maximum_batch_size:
            break
        candidate = waiting[index]
        if apart and candidate.flow.priority > first.flow.priority:
            continue
        finish = now + cost.seconds(tokens=tokens + candidate.tokens)
        if texts + candidate.texts <= limits.maximum_batch_size and finish <= min(earliest, candidate.deadline):
            chosen.append(index)
            texts += candidate.texts
            tokens += candidate.tokens
            earliest = min(earliest, candidate.deadline)
    return tuple(chosen), tokens


def expected_finish(
    new: Waiting, waiting: Sequence[Waiting], *, free: Sequence[float], limits: Limits, cost: Cost
) -> float:
    """When ``new`` would be done, behind the running batches and everything whose turn is before.

    When that is too late for it: behind everything with an earlier deadline, if that order meets all deadlines.
    """
    finish = _done([w for w in waiting if w.turn <= new.turn], new, free=free, limits=limits, cost=cost)
    if finish <= new.deadline:
        return finish
    by_deadline = sorted([*waiting, new], key=lambda w: w.deadline)
    if not _in_time(by_deadline, free=free, limits=limits, cost=cost):
        return finish
    return _done([w for w in waiting if w.deadline <= new.deadline], new, free=free, limits=limits, cost=cost)


def _done(ahead: Sequence[Waiting], new: Waiting, *, free: Sequence[float], limits: Limits, cost: Cost) -> float:
    texts = sum(w.texts for w in ahead) + new.texts
    tokens = sum(w.tokens for w in ahead) + new.tokens
    return _finish(free, texts=texts, tokens=tokens, limits=limits, cost=cost)


def displaced(waiting: Sequence[Waiting], *, by: Flow, pieces: int = 1) -> int | None:
    """The index of what goes when the queue is full and ``by`` wants ``pieces`` in; None: it has to stay out itself.

    The newest piece of whoever has most in the queue for its weight goes (longest-queue drop, McKenney 1990), so that
    one who floods the queue doesn't keep the others out.
    """
    held = Counter(w.flow for w in waiting)
    held[by] += pieces
    share = {flow: count / flow.weight for flow, count in held.items()}
    greediest = max(share, key=share.__getitem__)
    if share[greediest] <= share[by]:
        return None
    return max((i for i, w in enumerate(waiting) if w.flow == greediest), key=lambda i: (waiting[i].turn, i))
