"""Replicas whose pods share cores, event by event: what each of them does slows down what the others do.

On a core, requests are read and answers written first, in order, since a thread that slept goes before one that
computes; what is left of the core the pods' batches share evenly. So nobody knows when a batch ends before it has.
"""

import numpy as np

from cycleops.planner.simulation.compiled import compiled, inlined
from cycleops.planner.simulation.fleet_kernel import hashed, least_connected, pop, push
from cycleops.planner.simulation.kernels import batch_seconds
from cycleops.planner.simulation.rules import Handling, Requests, Ring, Rules, Table
from cycleops.planner.simulation.shared_state import BATCHES, LARGEST, NONE, ON_WAY, OPEN, TURN, State

ROUND_ROBIN, LEAST_CONNECTIONS = -1, 0  # instead of a load_percent


@inlined
def advance(state: State, core: int, pods: int, now: float) -> None:
    """What the core did since it was looked at last."""
    passed = now - state.since[core]
    state.since[core] = now
    if state.first[core] != NONE:
        state.handling[core] -= passed
        state.busy[0] += passed
        return
    low, high = core * pods, min((core + 1) * pods, len(state.batch))
    active = 0
    for replica in range(low, high):
        active += state.batch[replica] != NONE
    if active > 0:
        state.busy[0] += passed
        for replica in range(low, high):
            if state.batch[replica] != NONE:
                state.left[replica] -= passed / active


@inlined
def shortest(state: State, core: int, pods: int) -> tuple[int, int]:
    """The replica whose batch ends first, and how many compute."""
    found, active = NONE, 0
    for replica in range(core * pods, min((core + 1) * pods, len(state.batch))):
        if state.batch[replica] != NONE:
            active += 1
            if found == NONE or state.left[replica] < state.left[found]:
                found = replica
    return found, active


@inlined
def done_at(state: State, core: int, pods: int) -> float:
    """When the core ends what it does, if nothing comes."""
    since: float = state.since[core]
    if state.first[core] != NONE:
        return since + max(state.handling[core], 0.0)  # type: ignore[no-any-return]
    found, active = shortest(state, core, pods)
    return np.inf if found == NONE else since + max(state.left[found], 0.0) * active


@inlined
def next_core(state: State, pods: int) -> tuple[int, float]:
    """The one that ends what it does first, and when."""
    core, done = 0, done_at(state, 0, pods)
    for other in range(1, len(state.since)):
        at = done_at(state, other, pods)
        if at < done:
            core, done = other, at
    return core, done


@inlined
def hand(state: State, core: int, request: int, handling: Handling) -> None:
    """To the core, behind what it has to handle."""
    state.following[request] = NONE
    if state.first[core] == NONE:
        state.first[core] = request
        state.handling[core] = handling.outward[request] if state.answering[request] else handling.inward[request]
    else:
        state.following[state.last[core]] = request
    state.last[core] = request


@inlined
def start_if_due(state: State, replica: int, now: float, requests: Requests, table: Table, rules: Rules) -> None:
    first, waiting = state.head[replica], state.waiting[replica]
    if state.batch[replica] == NONE and waiting > 0:
        deadline = state.ready[first] + rules.delay_seconds
        if waiting < rules.maximum_batch and now < deadline:
            state.due[replica] = deadline
        else:
            size, tokens, request = min(waiting, rules.maximum_batch), 0, first
            for _ in range(size):
                tokens += requests.tokens[request]
                state.start[request] = now
                request = state.following[request]
            state.batch[replica], state.size[replica] = first, size
            state.left[replica] = batch_seconds(table, 0, size, tokens, requests.level[first])
            state.head[replica] = request
            if request == NONE:
                state.tail[replica] = NONE
            state.waiting[replica] -= size
            state.due[replica] = np.inf
            state.counts[BATCHES] += 1
            state.counts[LARGEST] = max(state.counts[LARGEST], size)


@inlined
def end_batch(state: State, replica: int, core: int, now: float, handling: Handling) -> None:
    request = state.batch[replica]
    for _ in range(state.size[replica]):
        following = state.following[request]
        state.end[request] = now
        state.answering[request] = True
        hand(state, core, request, handling)
        request = following
    state.batch[replica] = NONE


@inlined
def end_handling(state: State, core: int, now: float, requests: Requests, handling: Handling) -> int:
    """The replica that got one more to compute, if any did."""
    request = state.first[core]
    following = state.following[request]
    state.first[core] = following
    if following == NONE:
        state.last[core] = NONE
    else:
        answer = state.answering[following]
        state.handling[core] = handling.outward[following] if answer else handling.inward[following]
    replica = NONE
    if state.answering[request] or not requests.queued[request]:
        if not requests.queued[request]:
            state.ready[request] = now
        state.leave[request] = now + handling.after[request]
        leaves = state.leave[request]
        state.counts[OPEN] = push(state.answers, state.answered, state.counts[OPEN], leaves, request)
    else:
        replica = state.chosen[request]
        state.ready[request] = now
        state.following[request] = NONE
        if state.tail[replica] == NONE:
            state.head[replica] = request
        else:
            state.following[state.tail[replica]] = request
        state.tail[replica] = request
        state.waiting[replica] += 1
    return replica


@inlined
def count_connection(state: State, dispatcher: int, replica: int, change: int) -> None:
    state.connections[dispatcher, replica] += change
    state.served[dispatcher] += change
    state.counts[TURN] += 1
    state.turn[dispatcher, replica] = state.counts[TURN]


@inlined
def dispatch(state: State, request: int, requests: Requests, handling: Handling, ring: Ring, load_percent: int) -> None:
    dispatcher = requests.dispatcher[request]
    connections = state.connections[dispatcher]
    if load_percent > 0:
        replica = hashed(requests.spread[request], connections, state.served[dispatcher], load_percent, ring)
    elif load_percent == LEAST_CONNECTIONS:
        replica = least_connected(connections, state.turn[dispatcher])
    else:
        replica = (state.given[dispatcher] + dispatcher) % len(connections)
        state.given[dispatcher] += 1
    state.chosen[request] = replica
    count_connection(state, dispatcher, replica, 1)
    comes = requests.arrival[request] + handling.before[request]
    state.counts[ON_WAY] = push(state.coming, state.comes, state.counts[ON_WAY], comes, request)


@compiled
def run_shared(
    state: State,
    requests: Requests,
    handling: Handling,
    table: Table,
    rules: Rules,
    ring: Ring,
    load_percent: int,
    pods: int,
) -> None:
    """From a new state to one in which all is answered; ``pods`` on each core.

    ``load_percent``: ROUND_ROBIN, LEAST_CONNECTIONS, or the bound of consistent hashing.
    """
    count, arriving = len(requests.arrival), 0
    while True:
        arrives = requests.arrival[arriving] if arriving < count else np.inf
        comes = state.coming[0] if state.counts[ON_WAY] > 0 else np.inf
        leaves = state.answers[0] if state.counts[OPEN] > 0 else np.inf
        due = int(np.argmin(state.due))
        core, done = next_core(state, pods)
        now = min(arrives, comes, leaves, done, state.due[due])
        if now == np.inf:
            break
        if done == now:
            advance(state, core, pods, now)
            if state.first[core] != NONE:
                replica = end_handling(state, core, now, requests, handling)
            else:
                replica, _ = shortest(state, core, pods)
                end_batch(state, replica, core, now, handling)
            if replica != NONE:
                start_if_due(state, replica, now, requests, table, rules)
        elif state.due[due] == now:
            advance(state, due // pods, pods, now)
            start_if_due(state, due, now, requests, table, rules)
        elif leaves == now:
            request = state.answered[0]
            state.counts[OPEN] = pop(state.answers, state.answered, state.counts[OPEN])
            count_connection(state, requests.dispatcher[request], state.chosen[request], -1)
        elif comes == now:
            request = state.comes[0]
            state.counts[ON_WAY] = pop(state.coming, state.comes, state.counts[ON_WAY])
            core = state.chosen[request] // pods
            advance(state, core, pods, now)
            hand(state, core, request, handling)
        else:
            dispatch(state, arriving, requests, handling, ring, load_percent)
            arriving += 1
