"""What waits for the compute thread. Not locked: its owner, the batcher, does that."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from cycle_server.batching.cost import Cost
from cycle_server.batching.execution import Ran
from cycle_server.batching.fairness import Turns
from cycle_server.batching.policy import Decision, Flow, Waiting, displaced
from cycle_server.items import Items


@dataclass(eq=False)
class Piece:
    """Texts of one request that run in one batch."""

    tokens: Items
    waiting: Waiting
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[Ran]"
    lost_once: bool = False  # the process that computed it died

    def set(self, result: Ran | Exception) -> None:
        """On the loop's thread."""
        if self.done.done():  # its client has gone
            return
        if isinstance(result, Exception):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


def deliver(results: Sequence[tuple[Piece, Ran | Exception]]) -> None:
    """May be called on any thread.

    Each loop is woken once: a thread that wakes it once per piece loses the interpreter lock as often, to the work that
    its own results cause, before it comes to compute again.
    """
    for loop in dict.fromkeys(piece.loop for piece, _ in results):
        own = [(piece, result) for piece, result in results if piece.loop is loop]
        loop.call_soon_threadsafe(_set_all, own)


def _set_all(results: Sequence[tuple[Piece, Ran | Exception]]) -> None:
    for piece, result in results:
        piece.set(result)


class Waits(Protocol):
    """What can stand in a queue: a piece of a batch, or a sequence that is to be generated."""

    waiting: Waiting


Item = TypeVar("Item", bound=Waits)


class Queue(Generic[Item]):
    """At most ``limit`` pieces, in order of arrival."""

    def __init__(self, *, limit: int) -> None:
        self.turns = Turns()
        self._limit = limit
        self._pieces: list[Item] = []

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def items(self) -> list[Item]:
        return list(self._pieces)

    @property
    def waiting(self) -> list[Waiting]:
        return [piece.waiting for piece in self._pieces]

    def add(self, pieces: Sequence[Item], *, cost: Cost) -> None:
        """Gives each its turn."""
        for piece in pieces:
            turn = self.turns.give(piece.waiting.flow, seconds=cost.seconds(tokens=piece.waiting.tokens))
            piece.waiting = replace(piece.waiting, turn=turn)
        self._pieces.extend(pieces)

    def put_back(self, pieces: Sequence[Item]) -> None:
        """At the turns that they had."""
        self._pieces.extend(pieces)

    def remove(self, pieces: Iterable[Item]) -> list[Item]:
        """Those that waited."""
        gone = set(pieces)
        removed = [piece for piece in self._pieces if piece in gone]
        if removed:
            self._pieces = [piece for piece in self._pieces if piece not in gone]
        return removed

    def pick(self, decision: Decision) -> tuple[list[Item], list[Item]]:
        """Takes the late ones and the batch out."""
        late = [self._pieces[index] for index in decision.drop]
        batch = [self._pieces[index] for index in decision.take]
        if late or batch:
            self.remove([*late, *batch])
        if batch:
            left = min((piece.waiting.turn for piece in self._pieces), default=None)
            self.turns.served(max(piece.waiting.turn for piece in batch), earliest_waiting=left)
        return late, batch

    def victims(self, count: int, *, by: Flow) -> list[Item] | None:
        """Who leaves so that ``count`` pieces of ``by`` fit in; None when they have to stay out."""
        left = list(self._pieces)
        victims = []
        while len(left) + count > self._limit:
            index = displaced([piece.waiting for piece in left], by=by, pieces=count)
            if index is None:
                return None
            victims.append(left.pop(index))
        return victims
