"""The batcher over several processes that compute: faults are injected into stand-ins for them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest

from cycle_server.batching.batcher import Batcher, ShedError
from cycle_server.batching.errors import ShedReason
from cycle_server.batching.execution import ComputeLostError
from cycle_server.batching.lane import Process
from cycle_server.batching.policy import Limits
from cycle_server.items import Items
from tests.unit.server.batchers import FAST, Counts, soon, until


class Fake:
    """Answers each text with its first token; waits for ``go``; is lost with the texts in ``kills``."""

    def __init__(self, kills: Sequence[int] = ()) -> None:
        self.kills, self.batches, self.renewals = set(kills), list[list[int]](), 0
        self.go, self.may_renew = threading.Event(), threading.Event()
        self.go.set()
        self.may_renew.set()
        self.memory = True

    def compute(self, tokens: Items, *, limit_seconds: float) -> np.ndarray:
        assert limit_seconds > 0
        self.batches.append([text[0] for text in tokens])
        assert self.go.wait(10)
        if self.kills & {text[0] for text in tokens}:
            raise ComputeLostError("killed")
        if not self.memory:
            raise MemoryError
        return np.array([[float(text[0])] for text in tokens])

    def renew(self) -> None:
        assert self.may_renew.wait(10)
        self.memory = True
        self.renewals += 1


class Processes(Counts):
    def __init__(self) -> None:
        super().__init__()
        self.running, self.lost = [], 0  # type: tuple[list[int], int]

    def processes(self, running: int, *, lost: bool) -> None:
        self.running.append(running)
        self.lost += lost


@asynccontextmanager
async def over(*fakes: Fake, observer: Counts | None = None) -> AsyncIterator[Batcher]:
    processes: list[Process] = list(fakes)
    limits = Limits(maximum_batch_size=1, maximum_delay_seconds=0.0)
    batcher = Batcher(compute=processes, limits=limits, cost=FAST, queue_limit=64, observer=observer)
    batcher.start()
    try:
        yield batcher
    finally:
        for fake in fakes:
            fake.go.set()
            fake.may_renew.set()
        await asyncio.to_thread(batcher.stop)


def submit(batcher: Batcher, *texts: int) -> "list[asyncio.Task[float]]":
    async def one(text: int) -> float:
        return float((await batcher.submit([[text]], deadline=soon())).logits[0, 0])

    return [asyncio.create_task(one(text)) for text in texts]


async def test_each_has_a_batch_while_more_waits() -> None:
    fakes = Fake(), Fake()
    for fake in fakes:
        fake.go.clear()
    async with over(*fakes) as batcher:
        tasks = submit(batcher, 1, 2, 3)
        await until(lambda: all(fake.batches for fake in fakes))
        assert batcher.depth == 1
        for fake in fakes:
            fake.go.set()
        assert await asyncio.gather(*tasks) == [1.0, 2.0, 3.0]


async def test_what_a_process_had_when_it_died_is_computed_by_another() -> None:
    fakes, counts = (Fake(), Fake()), Processes()
    for fake in fakes:
        fake.go.clear()
        fake.may_renew.clear()
    async with over(*fakes, observer=counts) as batcher:
        (task,) = submit(batcher, 1)
        await until(lambda: any(fake.batches for fake in fakes))
        dying, other = fakes if fakes[0].batches else fakes[::-1]
        dying.kills.add(1)
        dying.go.set()
        other.go.set()
        assert await task == 1.0
        assert (dying.batches, other.batches) == ([[1]], [[1]])
        assert not batcher.is_stuck()
        dying.may_renew.set()
        await until(lambda: counts.running == [2, 1, 2])
    assert counts.lost == 1
    assert not counts.sheds


async def test_a_text_that_two_died_of_is_refused() -> None:
    fakes, counts = (Fake(kills=[1]), Fake(kills=[1])), Processes()
    async with over(*fakes, observer=counts) as batcher:
        with pytest.raises(ShedError, match="ended") as refused:
            await batcher.submit([[1]], deadline=soon())
        assert refused.value.http_status == 503
        await until(lambda: sum(fake.renewals for fake in fakes) == 2)
        assert await submit(batcher, 2)[0] == 2.0
    assert counts.sheds == {ShedReason.LOST: 1}


async def test_it_is_stuck_only_while_no_process_is_left() -> None:
    first, second = Fake(kills=[1]), Fake(kills=[1])
    first.may_renew.clear()
    second.may_renew.clear()
    async with over(first, second) as batcher:
        task = submit(batcher, 1)[0]
        with pytest.raises(ShedError, match="ended"):
            await task
        await until(batcher.is_stuck)
        with pytest.raises(ShedError, match="hangs"):
            await batcher.submit([[2]], deadline=soon())
        first.may_renew.set()
        await until(lambda: not batcher.is_stuck())
        assert await submit(batcher, 2)[0] == 2.0


async def test_a_process_without_memory_is_renewed_and_the_server_lives() -> None:
    fake = Fake()
    fake.memory = False
    async with over(fake) as batcher:
        for _ in range(8):
            if fake.renewals:
                break
            with pytest.raises(ShedError, match="memory"):
                await batcher.submit([[1]], deadline=soon())
        await until(lambda: fake.renewals == 1)
        await until(lambda: not batcher.is_stuck())
        assert await submit(batcher, 2)[0] == 2.0
