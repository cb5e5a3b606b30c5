"""One of those that take batches from the queue: a thread that computes itself, or that hands batches to a process."""

import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from cycle_server.batching.execution import Compute
from cycle_server.items import Items

# After a failed allocation oneDNN may never make a kernel again (docs/notes/2026-11-25-batching.md). A process that
# fails eight batches in a row for want of memory, or nearly so, is better started anew.
FAILING_RATE, FAILING_LIMIT = 0.2, 0.8


@runtime_checkable
class Process(Protocol):
    """Computes elsewhere, and can be replaced when it dies or hangs. Called on its lane's thread only."""

    def compute(self, tokens: Items, *, limit_seconds: float) -> np.ndarray:
        """As Compute does. Raises ComputeLostError when the process ends, or has no result in time."""

    def renew(self) -> None:
        """Blocks until a new process is warm; the old one, if it still runs, is killed. Raises ComputeLostError."""


@dataclass(eq=False)
class Lane:
    """Times are on time.monotonic(). Not locked: its owner, the batcher, does that."""

    computes: Compute | Process
    thread: threading.Thread = field(init=False)
    busy_until: float = 0.0  # as expected; 0 while it waits
    heartbeat: float = field(default_factory=time.monotonic)
    failing: float = 0.0  # moving average: of batches, those of which nothing could be computed for want of memory
    lost: bool = False

    def compute(self, *, limit_seconds: float) -> Compute:
        """The thread itself can't be given up when it is late, a process can."""
        if isinstance(self.computes, Process):
            return partial(self.computes.compute, limit_seconds=limit_seconds)
        return self.computes

    def count_failure(self, *, failed: bool) -> None:
        self.failing += FAILING_RATE * (failed - self.failing)

    @property
    def is_failing(self) -> bool:
        return self.failing > FAILING_LIMIT

    def is_stuck(self, *, now: float, after_seconds: float) -> bool:
        """No longer of use: lost, its thread ended, far beyond the time of its batch, or failing for want of memory."""
        ended = self.thread.ident is not None and not self.thread.is_alive()
        late = now > max(self.heartbeat, self.busy_until) + after_seconds
        return self.lost or ended or late or self.is_failing
