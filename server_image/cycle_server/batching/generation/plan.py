"""Pure decisions of continuous batching: who joins, what a step computes, when a newcomer would have its first token.

Times are seconds on one monotonic clock, given as arguments. Sequences get their turns as texts do (fairness.py).
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from cycle_server.batching.cost import Cost
from cycle_server.batching.policy import Decision, Waiting

STEP_TOKENS = 256  # of prompts in one step: a long prompt must not hold up those who are being answered


@dataclass(frozen=True)
class Asked(Waiting):
    """``tokens``: all the work, prompt and expected answer. ``prompt``: tokens of the prompt alone."""

    prompt: int = 0


@dataclass(frozen=True)
class Room:
    """What newcomers may take: ``places`` sequences, ``blocks`` of ``block_tokens`` tokens each."""

    places: int
    blocks: int
    block_tokens: int


def admit(waiting: Sequence[Asked], *, now: float, room: Room, cost: Cost) -> Decision:
    """Those who join now, in the order of their turns; the first for whom there is no room holds up the rest.

    One who has room for the prompt joins; when the pool is full later on, the last in turn makes place.
    """
    late = tuple(i for i, w in enumerate(waiting) if now + cost.seconds(tokens=w.prompt) > w.deadline)
    order = sorted(set(range(len(waiting))) - set(late), key=lambda i: (waiting[i].turn, i))
    chosen: list[int] = []
    left = room.blocks
    for index in order[: room.places]:
        left -= waiting[index].prompt // room.block_tokens + 1  # the first token of the answer has room too
        if left < 0:
            break
        chosen.append(index)
    return Decision(take=tuple(chosen), drop=late)


@dataclass(frozen=True)
class Progress:
    """A sequence under way: ``computed`` of its ``tokens`` have keys and values, in ``blocks`` blocks."""

    tokens: int
    computed: int
    blocks: int


@dataclass(frozen=True)
class Step:
    """``counts``: tokens to compute of each sequence, 0 for none; ``preempt``: who gives its blocks back first."""

    counts: tuple[int, ...]
    preempt: tuple[int, ...] = ()


def compose(running: Sequence[Progress], *, free_blocks: int, block_tokens: int) -> Step:
    """``running`` in the order of turns, each with something to compute.

    Everyone who is being answered gets one token more; prompts share STEP_TOKENS, the first in turn first. When blocks
    run out the last in turn gives its own back and starts over later, so that the first always goes on.
    """
    counts, preempted = [0] * len(running), set[int]()
    prompts_left = STEP_TOKENS
    for index, sequence in enumerate(running):
        if index in preempted:
            break
        missing = sequence.tokens - sequence.computed
        count = missing if missing == 1 else min(missing, prompts_left)
        if count == 0:
            continue
        needed = -(-(sequence.computed + count) // block_tokens) - sequence.blocks
        last = len(running) - 1
        while needed > free_blocks and last > index:
            if last not in preempted:
                preempted.add(last)
                free_blocks += running[last].blocks
            last -= 1
        if needed > free_blocks:  # it is the last that is left
            break
        free_blocks -= needed
        counts[index] = count
        prompts_left -= count if missing > 1 else 0
    return Step(counts=tuple(counts), preempt=tuple(sorted(preempted)))


def expected_first_token(
    new: Asked, waiting: Sequence[Asked], remaining: Sequence[int], *, places: int, now: float, cost: Cost
) -> float:
    """When ``new`` would have its first token.

    ``remaining``: tokens that each running sequence is expected to get still; each of them, and of those whose turn is
    before, leaves its place when it has them. A step takes as long as a full one.
    """
    step_seconds = cost.seconds(tokens=places)
    free_at = [left * step_seconds for left in remaining][:places] + [0.0] * max(places - len(remaining), 0)
    heapq.heapify(free_at)
    prompts = sum(w.prompt for w in waiting if w.turn <= new.turn)
    for before in sorted((w for w in waiting if w.turn <= new.turn), key=lambda w: w.turn):
        start = heapq.heappop(free_at)
        heapq.heappush(free_at, start + (before.tokens - before.prompt) * step_seconds)
    own = (
        cost.seconds(tokens=prompts + new.prompt)
        if not remaining
        else step_seconds + cost.seconds(tokens=prompts + new.prompt)
    )
    return now + heapq.heappop(free_at) + own
