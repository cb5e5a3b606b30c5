"""The batcher with a real thread and a compute function that says what ran together."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from cycle_server.batching.batcher import Batcher, ShedError, Tokens
from cycle_server.batching.cost import Cost
from cycle_server.batching.policy import Limits

FAST = Cost(fixed_seconds=0.0, token_seconds=1e-6)


class Recorder:
    """Answers each text with its first token; can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None

    def __call__(self, tokens: Tokens, /) -> np.ndarray:
        self.batches.append([text[0] for text in tokens])
        assert self.go.wait(10)
        if self.error is not None:
            raise self.error
        return np.array([[float(text[0])] for text in tokens])


@asynccontextmanager
async def running(
    compute: Recorder, *, size: int = 4, delay_seconds: float = 0.0, queue_limit: int = 64, cost: Cost = FAST
) -> AsyncIterator[Batcher]:
    limits = Limits(maximum_batch_size=size, maximum_delay_seconds=delay_seconds)
    batcher = Batcher(compute=compute, limits=limits, cost=cost, queue_limit=queue_limit)
    batcher.start()
    try:
        yield batcher
    finally:
        compute.go.set()
        await asyncio.to_thread(batcher.stop)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the other side is a thread
            await asyncio.sleep(0.002)


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


async def test_everyone_gets_their_own_answer() -> None:
    compute = Recorder()
    async with running(compute) as batcher:
        results = await asyncio.gather(*(batcher.submit([[i, 0]], deadline=soon()) for i in range(50)))
    assert [float(result.logits[0, 0]) for result in results] == [float(i) for i in range(50)]
    assert sum(len(batch) for batch in compute.batches) == 50
    assert max(len(batch) for batch in compute.batches) == 4


async def test_what_waits_runs_together() -> None:
    compute = Recorder()
    compute.go.clear()
    async with running(compute) as batcher:
        first = asyncio.create_task(batcher.submit([[0]], deadline=soon()))
        await until(lambda: compute.batches == [[0]])
        others = [asyncio.create_task(batcher.submit([[i]], deadline=soon())) for i in (1, 2, 3)]
        await until(lambda: batcher.depth == 3)
        compute.go.set()
        results = await asyncio.gather(first, *others)
    assert compute.batches == [[0], [1, 2, 3]]
    assert [result.batch_size for result in results] == [1, 3, 3, 3]
    assert results[1].queue_seconds > 0


async def test_a_batch_waits_for_its_delay_only() -> None:
    compute = Recorder()
    async with running(compute, delay_seconds=0.1) as batcher:
        started = time.monotonic()
        await asyncio.gather(*(batcher.submit([[i]], deadline=soon()) for i in (1, 2)))
        assert 0.08 < time.monotonic() - started < 2
    assert compute.batches == [[1, 2]]


async def test_a_request_larger_than_a_batch_keeps_its_order() -> None:
    compute = Recorder()
    async with running(compute, size=4) as batcher:
        result = await batcher.submit([[i] for i in range(10)], deadline=soon())
    assert result.logits[:, 0].tolist() == [float(i) for i in range(10)]
    assert [len(batch) for batch in compute.batches] == [4, 4, 2]


async def test_a_full_queue_sheds() -> None:
    compute = Recorder()
    compute.go.clear()
    async with running(compute, queue_limit=1) as batcher:
        first = asyncio.create_task(batcher.submit([[0]], deadline=soon()))
        await until(lambda: compute.batches == [[0]])
        second = asyncio.create_task(batcher.submit([[1]], deadline=soon()))
        await until(lambda: batcher.depth == 1)
        with pytest.raises(ShedError, match="full"):
            await batcher.submit([[2]], deadline=soon())
        compute.go.set()
        await asyncio.gather(first, second)


async def test_what_cannot_be_in_time_is_shed_at_once_and_says_when() -> None:
    compute = Recorder()
    async with running(compute, cost=Cost(fixed_seconds=0.0, token_seconds=1.0)) as batcher:
        with pytest.raises(ShedError) as shed:
            await batcher.submit([[1] * 10], deadline=soon(2.0))
    assert shed.value.retry_after_seconds == pytest.approx(8.0, abs=0.5)
    assert compute.batches == []


async def test_what_waited_too_long_is_not_computed() -> None:
    compute = Recorder()
    compute.go.clear()
    async with running(compute) as batcher:
        first = asyncio.create_task(batcher.submit([[0]], deadline=soon()))
        await until(lambda: compute.batches == [[0]])
        late = asyncio.create_task(batcher.submit([[1]], deadline=soon(0.05)))
        await asyncio.sleep(0.1)
        compute.go.set()
        with pytest.raises(ShedError):
            await late
        await first
    assert compute.batches == [[0]]


async def test_what_nobody_waits_for_is_not_computed() -> None:
    compute = Recorder()
    compute.go.clear()
    async with running(compute) as batcher:
        first = asyncio.create_task(batcher.submit([[0]], deadline=soon()))
        await until(lambda: compute.batches == [[0]])
        gone = asyncio.create_task(batcher.submit([[1]], deadline=soon()))
        await until(lambda: batcher.depth == 1)
        gone.cancel()
        await until(lambda: batcher.depth == 0)
        compute.go.set()
        await first
    assert compute.batches == [[0]]


async def test_a_failed_batch_fails_its_requests_and_no_others() -> None:
    compute = Recorder()
    compute.error = ArithmeticError("no")
    async with running(compute) as batcher:
        with pytest.raises(ArithmeticError):
            await batcher.submit([[1]], deadline=soon())
        compute.error = None
        assert (await batcher.submit([[2]], deadline=soon())).logits[0, 0] == 2.0


async def test_stopping_finishes_what_is_queued() -> None:
    compute = Recorder()
    compute.go.clear()
    async with running(compute, size=1) as batcher:
        tasks = [asyncio.create_task(batcher.submit([[i]], deadline=soon())) for i in range(3)]
        await until(lambda: batcher.depth == 2)
        stopping = asyncio.create_task(asyncio.to_thread(batcher.stop))
        await asyncio.sleep(0.05)
        compute.go.set()
        results = await asyncio.gather(*tasks)
        await stopping
    assert [result.logits[0, 0] for result in results] == [0.0, 1.0, 2.0]


async def test_a_hung_computation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cycle_server.batching.batcher.STUCK_SECONDS", 0.2)
    compute = Recorder()
    compute.go.clear()
    async with running(compute) as batcher:
        assert not batcher.is_stuck()
        task = asyncio.create_task(batcher.submit([[0]], deadline=soon()))
        await until(batcher.is_stuck)
        compute.go.set()
        await task
        await until(lambda: not batcher.is_stuck())
