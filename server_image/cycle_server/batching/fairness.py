"""Whose turn it is: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) between tenants and classes.

Each piece of work gets a turn when it comes: behind its own flow's earlier work, and not before what runs now. Work
takes place in a flow's turns by its seconds over the flow's weight, so flows that always have work waiting get compute
time in proportion to their weights, and one that comes after a pause is served next.
"""

from cycle_server.batching.policy import Flow

MAXIMUM_FLOWS = 1024  # flows beyond share one, so that invented names take neither memory nor more than one share


class Turns:
    """Turns are seconds of virtual time: they only compare to each other."""

    def __init__(self) -> None:
        self._now = 0.0
        self._next: dict[Flow, float] = {}

    def next(self, flow: Flow, *, after_seconds: float = 0.0) -> float:
        """The turn that a piece of ``flow`` would get now, behind ``after_seconds`` of its own work."""
        return max(self._now, self._next.get(self._known(flow), 0.0)) + after_seconds / flow.weight

    def give(self, flow: Flow, *, seconds: float) -> float:
        """The turn of a piece of ``flow`` that takes about ``seconds``."""
        turn = self.next(flow)
        self._next[self._known(flow)] = turn + seconds / flow.weight
        return turn

    def _known(self, flow: Flow) -> Flow:
        return flow if flow in self._next or len(self._next) < MAXIMUM_FLOWS else Flow(priority=flow.priority)

    def served(self, turn: float, *, earliest_waiting: float | None) -> None:
        """``turn``: the last of those that start now. ``earliest_waiting``: of those still there; None without any."""
        if earliest_waiting is None:
            self._now = max(self._now, *self._next.values()) if self._next else self._now
            self._next.clear()
            return
        self._now = max(self._now, min(turn, earliest_waiting))
        self._next = {flow: at for flow, at in self._next.items() if at > self._now}
