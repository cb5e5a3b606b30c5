"""What the batcher tells whoever counts."""

from cycle_server.batching.errors import ShedReason


class Observer:
    """Does nothing; override what is of interest. Called on any thread, and must not block."""

    def batch(self, *, texts: int, seconds: float) -> None:
        """A batch has run."""

    def shed(self, reason: ShedReason) -> None:
        """A request has been refused or given up."""

    def fault(self, *, out_of_memory: bool) -> None:
        """Computing a batch, or a half of one, failed."""

    def processes(self, running: int, *, lost: bool) -> None:
        """So many processes compute now; ``lost``: one has just died or was given up."""
