"""Continuous batching behind balancers, compiled, as our server does it (cycle_server.batching.generation).

A replica computes step after step. In front of each, what waits joins in order of readiness while there are places. A
step gives one token to every sequence whose prompt is computed; prompts share so many tokens of it, the first that
joined first, and the step that ends a prompt gives its sequence the first token. Between two arrivals replicas don't
know of each other, so each is run alone up to the next one.

Sequences that decode all take the same steps, so each is kept by the number of the step that ends it: a step costs the
same whether 1 or 100 decode.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cycle_wire.profile import GROWTH, MAXIMUM_BUCKET
from cycleops.planner.generation.rules import Admission, Sequences, Steps
from cycleops.planner.simulation.compiled import compiled, inlined
from cycleops.planner.simulation.fleet_kernel import enqueue, hashed, least_connected, pop, push
from cycleops.planner.simulation.intervals import BATCHES
from cycleops.planner.simulation.rules import Ring

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
_NONE = -1
STRETCHES = BATCHES + 1  # the first is the warm-up
_LOG_GROWTH = math.log(GROWTH)
ROUND_ROBIN, LEAST_CONNECTIONS = 0, -1  # in place of the percentage of consistent hashing
_OPEN, _TURN, STEPS, TOKENS, LARGEST = 0, 1, 2, 3, 4  # places in State.counts


class State(NamedTuple):
    """All that changes: by sequence, by replica, by dispatcher, and sums."""

    start: Array  # when it joins
    first: Array  # token
    end: Array  # last token
    missing: Indices  # tokens of the prompt that are not computed yet
    chosen: Indices
    following: Indices  # in the replica's list: of those that wait, then of those whose prompt is not computed yet
    before: Indices
    head: Indices  # of those that wait
    tail: Indices
    joined: Indices  # of those whose prompt is not computed yet
    last: Indices
    clock: Array
    under_way: Indices
    decoding: Indices
    steps: Indices  # of decoding
    context: Indices  # tokens of the decoding sequences together
    ends_at: Array  # [replica, slot]: a heap of the steps that end the decoding sequences
    ending: Indices  # [replica, slot]
    connections: Indices  # [dispatcher, replica]
    turn: Indices  # [dispatcher, replica]: when that number last changed
    served: Indices  # [dispatcher]: connections
    arrived: Indices  # [dispatcher]: so far
    answers: Array  # a heap of when the open answers leave
    answered: Indices
    counts: Indices
    busy: Array
    gaps: Indices  # [stretch of the sequences, bucket]: times between two tokens, as in cycle_wire.profile


def new_state(sequences: Sequences, *, replicas: int, dispatchers: int, most_sequences: int) -> State:
    """Nobody waits and every replica is idle."""
    count, whole = len(sequences.arrival), np.int64
    return State(
        start=np.zeros(count),
        first=np.zeros(count),
        end=np.zeros(count),
        missing=sequences.prompt.copy(),
        chosen=np.zeros(count, dtype=whole),
        following=np.full(count, _NONE),
        before=np.full(count, _NONE),
        head=np.full(replicas, _NONE),
        tail=np.full(replicas, _NONE),
        joined=np.full(replicas, _NONE),
        last=np.full(replicas, _NONE),
        clock=np.zeros(replicas),
        under_way=np.zeros(replicas, dtype=whole),
        decoding=np.zeros(replicas, dtype=whole),
        steps=np.zeros(replicas, dtype=whole),
        context=np.zeros(replicas, dtype=whole),
        ends_at=np.zeros((replicas, most_sequences + 1)),
        ending=np.zeros((replicas, most_sequences + 1), dtype=whole),
        connections=np.zeros((dispatchers, replicas), dtype=whole),
        turn=np.zeros((dispatchers, replicas), dtype=whole),
        served=np.zeros(dispatchers, dtype=whole),
        arrived=np.zeros(dispatchers, dtype=whole),
        answers=np.empty(count + 1),
        answered=np.empty(count + 1, dtype=whole),
        counts=np.zeros(5, dtype=whole),
        busy=np.zeros(1),
        gaps=np.zeros((STRETCHES, MAXIMUM_BUCKET + 1), dtype=whole),
    )


@inlined
def decode_seconds(steps: Steps, decoding: int, context: int, number: int) -> float:
    """Of ``decoding`` sequences with ``context`` tokens together; ``number``: of the step, for its luck."""
    place = context / decoding / steps.width
    left = min(int(place), steps.seconds.shape[1] - 2)
    low, high = steps.seconds[decoding, left], steps.seconds[decoding, left + 1]
    return (low + (place - left) * (high - low)) * steps.luck[number % len(steps.luck)]  # type: ignore[no-any-return]


@inlined
def count_connection(state: State, dispatcher: int, replica: int, change: int) -> None:
    state.connections[dispatcher, replica] += change
    state.served[dispatcher] += change
    state.counts[_TURN] += 1
    state.turn[dispatcher, replica] = state.counts[_TURN]


@inlined
def leave(state: State, sequence: int, now: float, sequences: Sequences) -> None:
    """The last token is there."""
    state.end[sequence] = now
    leaves_at = now + sequences.after[sequence]
    state.counts[_OPEN] = push(state.answers, state.answered, state.counts[_OPEN], leaves_at, sequence)


@inlined
def join(state: State, replica: int, now: float, sequences: Sequences, admission: Admission) -> None:
    """Those that are ready, while there are places."""
    first = state.head[replica]
    while first != _NONE and sequences.ready[first] <= now and state.under_way[replica] < admission.most_sequences:
        behind = state.following[first]
        state.start[first], state.following[first] = now, _NONE
        if state.joined[replica] == _NONE:
            state.joined[replica] = first
        else:
            state.following[state.last[replica]] = first
        state.last[replica] = first
        state.under_way[replica] += 1
        first = behind
    state.head[replica] = first
    if first == _NONE:
        state.tail[replica] = _NONE
    else:
        state.before[first] = _NONE
    state.counts[LARGEST] = max(state.counts[LARGEST], state.under_way[replica])


@inlined
def prompts_seconds(state: State, replica: int, sequences: Sequences, steps: Steps, admission: Admission) -> float:
    """Of the prompts' share in the next step, which is marked as computed; what is shared is counted once."""
    left, parts, seconds = admission.prompt_tokens, 0, 0.0
    sequence = state.joined[replica]
    while sequence != _NONE and left > 0:
        tokens = min(state.missing[sequence], left)
        seconds += sequences.prefill[sequence] * tokens / sequences.prompt[sequence]
        state.missing[sequence] -= tokens
        left -= tokens
        parts += 1
        sequence = state.following[sequence]
    if state.decoding[replica] == 0 and parts > 0:
        parts -= 1
    return max(seconds - parts * steps.shared, 0.0)


@inlined
def decoded(state: State, replica: int, now: float, seconds: float, stretch: int, sequences: Sequences) -> None:
    """One token for each that decodes; those for which it is the last one leave. Steps follow each other without a
    pause, so each waited for its token as long as the step took.
    """
    decoding = state.decoding[replica]
    bucket = int(math.log(max(seconds * 1e6, 1.0)) / _LOG_GROWTH)
    state.gaps[stretch, min(bucket, MAXIMUM_BUCKET)] += decoding
    state.steps[replica] += 1
    state.context[replica] += decoding
    state.counts[STEPS] += 1
    state.counts[TOKENS] += decoding
    times, items = state.ends_at[replica], state.ending[replica]
    while state.decoding[replica] > 0 and times[0] <= state.steps[replica]:
        sequence = items[0]
        state.decoding[replica] = pop(times, items, state.decoding[replica])
        state.context[replica] -= sequences.prompt[sequence] + sequences.output[sequence]
        state.under_way[replica] -= 1
        leave(state, sequence, now, sequences)


@inlined
def prompts_ended(state: State, replica: int, now: float, sequences: Sequences) -> None:
    """Those whose prompt is computed have their first token, and decode from now on."""
    times, items = state.ends_at[replica], state.ending[replica]
    sequence = state.joined[replica]
    while sequence != _NONE and state.missing[sequence] == 0:
        state.first[sequence] = now
        state.counts[TOKENS] += 1
        if sequences.output[sequence] <= 1:
            state.under_way[replica] -= 1
            leave(state, sequence, now, sequences)
        else:
            ends_at = state.steps[replica] + sequences.output[sequence] - 1
            state.decoding[replica] = push(times, items, state.decoding[replica], ends_at, sequence)
            state.context[replica] += sequences.prompt[sequence] + 1
        sequence = state.following[sequence]
    state.joined[replica] = sequence


@inlined
def run_replica(
    state: State, replica: int, until: float, stretch: int, sequences: Sequences, steps: Steps, admission: Admission
) -> None:
    """Every step that starts before ``until``; ``stretch`` is that of the gaps' counts."""
    while True:
        now = state.clock[replica]
        if state.under_way[replica] == 0:
            if state.head[replica] == _NONE:
                break
            now = max(now, sequences.ready[state.head[replica]])
        if now >= until:
            break
        join(state, replica, now, sequences, admission)
        seconds, decoding = 0.0, state.decoding[replica]
        if decoding > 0:
            # Replicas start at different places of the luck, else those that run alike would be lucky together.
            number = state.steps[replica] + 7919 * replica
            seconds = decode_seconds(steps, decoding, state.context[replica], number)
        if state.joined[replica] != _NONE:
            seconds += prompts_seconds(state, replica, sequences, steps, admission)
        now += seconds
        state.clock[replica] = now
        state.busy[0] += seconds
        if decoding > 0:
            decoded(state, replica, now, seconds, stretch, sequences)
        if state.joined[replica] != _NONE:
            prompts_ended(state, replica, now, sequences)


@inlined
def dispatch(state: State, sequence: int, sequences: Sequences, ring: Ring, policy: int) -> None:
    dispatcher = sequences.dispatcher[sequence]
    connections = state.connections[dispatcher]
    if policy == ROUND_ROBIN:
        replica = (state.arrived[dispatcher] + dispatcher) % len(connections)
    elif policy == LEAST_CONNECTIONS:
        replica = least_connected(connections, state.turn[dispatcher])
    else:
        replica = hashed(sequences.spread[sequence], connections, state.served[dispatcher], policy, ring)
    state.chosen[sequence] = replica
    state.arrived[dispatcher] += 1
    count_connection(state, dispatcher, replica, 1)
    if sequences.queued[sequence]:
        enqueue(sequence, replica, sequences.ready, state.head, state.tail, state.following, state.before)
    else:
        leave(state, sequence, sequences.ready[sequence], sequences)


@compiled
def run_together(
    state: State, sequences: Sequences, steps: Steps, admission: Admission, ring: Ring, policy: int, warm_up: int
) -> None:
    """From a new state to one in which all is answered.

    ``policy``: ROUND_ROBIN, LEAST_CONNECTIONS, or the percentage that consistent hashing bounds loads by. ``warm_up``:
    sequences in front whose time is counted apart.
    """
    count, replicas, stretch = len(sequences.arrival), len(state.clock), 0
    for sequence in range(count):
        now = sequences.arrival[sequence]
        for replica in range(replicas):
            run_replica(state, replica, now, stretch, sequences, steps, admission)
        while state.counts[_OPEN] > 0 and state.answers[0] <= now:
            left = state.answered[0]
            state.counts[_OPEN] = pop(state.answers, state.answered, state.counts[_OPEN])
            count_connection(state, sequences.dispatcher[left], state.chosen[left], -1)
        dispatch(state, sequence, sequences, ring, policy)
        if sequence >= warm_up:
            stretch = 1 + (STRETCHES - 1) * (sequence - warm_up) // (count - warm_up)
    for replica in range(replicas):
        run_replica(state, replica, np.inf, stretch, sequences, steps, admission)
