"""The closed loop: each 15 seconds a policy sees what was measured and orders replicas, which start with a delay.

Replica-hours count from the order to the removal, so starting costs too. The newest replica goes first. Every policy
gets the same requests, start-up delay and limits, and begins with the static plan for the declared rate.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.planner.peers import Policy, Seen
from bench.planner.replay import Replay
from bench.planner.service import MAXIMUM_REPLICAS, STARTUP_SECONDS, TICK_SECONDS, Played, server_of
from bench.planner.traces import STEP_SECONDS

_DRAIN_SECONDS = 60.0
# A removed replica finishes what it has before its slot is used again.
_SLOTS = 3 * MAXIMUM_REPLICAS


@dataclass(frozen=True, kw_only=True)
class Run:
    """``replicas[i]``: ordered from tick i on. ``late[i]``: answered late or refused in the window before."""

    attainment: float
    replica_hours: float
    replicas: NDArray[np.int64]
    late: NDArray[np.int64]


def run(played: Played, policy: Policy, *, initial: int) -> Run:
    trace, requests = played.trace, played.requests
    replay = Replay(requests=requests, server=server_of(requests.tokens), slots=_SLOTS)
    live = list(range(initial))  # slots, oldest first
    for slot in live:
        replay.open_slot(slot, ready_at=0.0)
    within, ordered, late, now = 0, [], [], 0.0
    while now < trace.seconds:
        ordered.append(len(live))
        before, now = now, min(now + TICK_SECONDS, trace.seconds)
        slowness = float(trace.slowness[int(before / STEP_SECONDS)])
        window = replay.advance(now, slowness=slowness)
        within += window.within
        late.append(window.answered - window.within + window.shed)
        ready = replay.ready(live, now)
        seen = Seen(now=now, seconds=now - before, window=window, ready=ready, ordered=len(live))
        _order(replay, live, min(max(policy.decide(seen), 1), MAXIMUM_REPLICAS), now)
    within += replay.advance(trace.seconds + _DRAIN_SECONDS).within
    return Run(
        attainment=within / len(requests.arrival),
        replica_hours=float(np.sum(ordered)) * TICK_SECONDS / 3600,
        replicas=np.array(ordered),
        late=np.array(late),
    )


def _order(replay: Replay, live: list[int], wanted: int, now: float) -> None:
    while len(live) > wanted:
        replay.close_slot(live.pop())
    while len(live) < wanted:
        slot = replay.idle_slots[0]
        replay.open_slot(slot, ready_at=now + STARTUP_SECONDS)
        live.append(slot)
