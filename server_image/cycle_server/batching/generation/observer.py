"""What the decoder tells whoever counts."""

from cycle_server.batching.observer import Observer


class GenerationObserver(Observer):
    """Does nothing; override what is of interest. Called on any thread, and must not block."""

    def step(self, *, sequences: int, tokens: int, seconds: float) -> None:
        """A step has run."""

    def preempted(self, sequences: int) -> None:
        """So many have given their blocks back; they start over when there is room."""
