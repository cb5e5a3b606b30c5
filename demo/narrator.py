"""Progress for people: a line per step with the elapsed time, and a live line where there is a terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status


class Narrator:
    """Says what happens. Repeated texts are said once, so that callers may poll."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._start = time.monotonic()
        self._last = ""
        self._status: Status | None = None

    def elapsed(self) -> str:
        seconds = int(time.monotonic() - self._start)
        return f"{seconds // 60:2d}:{seconds % 60:02d}"

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One step of the demo: its title, what is said within, and how long it took."""
        self.console.print(f"[dim]{self.elapsed()}[/] [bold cyan]{title}[/]")
        begin = time.monotonic()
        with self.console.status(title) as self._status:
            yield
        self._status = None
        self.console.print(f"[dim]{self.elapsed()}[/]   [green]done[/] in {time.monotonic() - begin:.0f} s")

    def say(self, text: str) -> None:
        """A line that stays; nothing when it is the same as the last."""
        if text != self._last:
            self._last = text
            self.console.print(f"[dim]{self.elapsed()}[/]   {text}")

    def show(self, text: str) -> None:
        """What is going on right now: overwritten on a terminal, not printed elsewhere."""
        if self._status is not None:
            self._status.update(text)
