"""Single flight: of those who ask the same at once, one asks the server and the others wait for its answer."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    waiting: int = 0


class Flights(Generic[T]):
    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def join(self, key: bytes, ask: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, bool]:
        """The answer of ``ask``, and whether another requester of the same key had asked already.

        Raises what that ``ask`` raised. It goes on while anybody waits: who leaves doesn't break the others' answer.
        When all have left it is cancelled, and who comes then starts a new one.
        """
        flight = self._flights.get(key)
        shared = flight is not None
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(ask()))
            flight.task.add_done_callback(partial(self._forget, key))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task), shared
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._forget(key, flight.task)
                flight.task.cancel()

    def _forget(self, key: bytes, task: asyncio.Task[T]) -> None:
        """Unless another flight of the same key has begun since."""
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
