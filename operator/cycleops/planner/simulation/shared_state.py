"""What changes while pods that share cores are simulated (shared_kernel)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
NONE = -1
ON_WAY, OPEN, TURN, BATCHES, LARGEST = 0, 1, 2, 3, 4  # places in State.counts


class State(NamedTuple):
    """All that changes: by request, by replica, by core, by dispatcher, and sums."""

    ready: Array
    start: Array
    end: Array
    leave: Array
    chosen: Indices
    following: Indices  # in the one list that the request is in
    answering: NDArray[np.bool_]  # whether the answer is what has to be handled
    head: Indices
    tail: Indices
    waiting: Indices
    batch: Indices  # the first request of the one that computes
    size: Indices
    left: Array  # seconds that it would still compute alone on the core
    due: Array  # when an idle replica closes its batch
    first: Indices  # what the core handles
    last: Indices
    handling: Array  # seconds left of the first
    since: Array  # up to when the core's ``left`` and ``handling`` are right
    connections: Indices  # [dispatcher, replica]
    turn: Indices  # [dispatcher, replica]: when that number last changed
    served: Indices
    given: Indices  # by round robin so far
    coming: Array  # a heap of when requests come to their pods
    comes: Indices
    answers: Array  # a heap of when the open answers leave
    answered: Indices
    counts: Indices
    busy: Array  # seconds of all cores


def new_state(count: int, replicas: int, cores: int, dispatchers: int) -> State:
    """Nobody waits and every core is free."""

    def none(size: int) -> Indices:
        return np.full(size, NONE)

    def zeros(*size: int) -> Indices:
        return np.zeros(size, dtype=np.int64)

    return State(
        np.zeros(count),
        np.zeros(count),
        np.zeros(count),
        np.zeros(count),
        zeros(count),
        none(count),
        np.zeros(count, dtype=bool),
        none(replicas),
        none(replicas),
        zeros(replicas),
        none(replicas),
        zeros(replicas),
        np.zeros(replicas),
        np.full(replicas, np.inf),
        none(cores),
        none(cores),
        np.zeros(cores),
        np.zeros(cores),
        zeros(dispatchers, replicas),
        zeros(dispatchers, replicas),
        zeros(dispatchers),
        zeros(dispatchers),
        np.empty(count + 1),
        np.empty(count + 1, dtype=np.int64),
        np.empty(count + 1),
        np.empty(count + 1, dtype=np.int64),
        zeros(5),
        np.zeros(1),
    )
