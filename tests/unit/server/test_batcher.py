"""The batcher with a real thread and a compute function that says what ran together."""

import asyncio
import time

import pytest

from cycle_server.batching.batcher import RateLimitedError, ShedError
from cycle_server.batching.cost import Cost
from cycle_server.batching.errors import ShedReason
from cycle_server.batching.policy import Flow, Priority
from cycle_server.batching.rate import RateLimits
from tests.unit.server.batchers import Counts, Recorder, running, soon, until


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


async def test_a_tenant_who_floods_waits_for_the_others() -> None:
    compute = Recorder()
    compute.go.clear()
    async with running(compute, size=1) as batcher:
        first = asyncio.create_task(batcher.submit([[0]], deadline=soon(), flow=Flow(tenant="flood")))
        await until(lambda: compute.batches == [[0]])
        flood = [
            asyncio.create_task(batcher.submit([[i]], deadline=soon(), flow=Flow(tenant="flood"))) for i in range(1, 9)
        ]
        await until(lambda: batcher.depth == 8)
        quiet = asyncio.create_task(batcher.submit([[100]], deadline=soon(), flow=Flow(tenant="quiet")))
        await until(lambda: batcher.depth == 9)
        compute.go.set()
        await asyncio.gather(first, quiet, *flood)
    assert compute.batches.index([100]) <= 2


async def test_a_flooded_queue_has_room_for_another_tenant() -> None:
    compute, counts = Recorder(), Counts()
    compute.go.clear()
    async with running(compute, size=1, queue_limit=4, observer=counts) as batcher:
        first = asyncio.create_task(batcher.submit([[0]], deadline=soon()))
        await until(lambda: compute.batches == [[0]])
        flood = [
            asyncio.create_task(batcher.submit([[i]], deadline=soon(), flow=Flow(tenant="flood"))) for i in range(1, 5)
        ]
        await until(lambda: batcher.depth == 4)
        quiet = asyncio.create_task(batcher.submit([[100]], deadline=soon(), flow=Flow(tenant="quiet")))
        with pytest.raises(ShedError, match="most of it is its tenant's"):
            await flood[-1]
        compute.go.set()
        assert (await quiet).logits[0, 0] == 100.0
        await asyncio.gather(first, *flood[:-1])
    assert counts.sheds == {ShedReason.DISPLACED: 1}
    assert [4] not in compute.batches


async def test_work_that_has_time_comes_after_people_but_comes() -> None:
    compute = Recorder()
    compute.go.clear()
    async with running(compute, size=1) as batcher:
        first = asyncio.create_task(batcher.submit([[0]], deadline=soon()))
        await until(lambda: compute.batches == [[0]])
        programs = [
            asyncio.create_task(batcher.submit([[100 + i]], deadline=soon(), flow=Flow(Priority.BATCH)))
            for i in range(3)
        ]
        people = [asyncio.create_task(batcher.submit([[i]], deadline=soon())) for i in range(1, 25)]
        await until(lambda: batcher.depth == 27)
        compute.go.set()
        await asyncio.gather(first, *programs, *people)
    order = [batch[0] for batch in compute.batches]
    places = [order.index(100 + i) for i in range(3)]
    assert places[1] > 5, "people go first"
    assert places[2] < 26, "but not all of them"


async def test_a_tenant_beyond_its_rate_is_told_when_to_come_again() -> None:
    compute, counts = Recorder(), Counts()
    rates = RateLimits(texts_per_second=0.5, burst=2)
    async with running(compute, rates=rates, observer=counts) as batcher:
        await batcher.submit([[1], [2]], deadline=soon(), flow=Flow(tenant="a"))
        with pytest.raises(RateLimitedError) as limited:
            await batcher.submit([[3]], deadline=soon(), flow=Flow(tenant="a"))
        assert (await batcher.submit([[4]], deadline=soon(), flow=Flow(tenant="b"))).logits[0, 0] == 4.0
    assert limited.value.http_status == 429
    assert limited.value.retry_after_seconds == pytest.approx(2.0, abs=0.2)
    assert counts.sheds == {ShedReason.RATE: 1}
    assert counts.texts == 3


async def test_a_small_deadline_is_admitted_when_all_can_be_met_though_not_by_turns() -> None:
    """By the cost each text takes a second, so by turns the one in a hurry would be done after four."""
    compute = Recorder()
    compute.go.clear()
    async with running(compute, size=1, cost=Cost(0.0, 1.0, deviation=0.0)) as batcher:
        first = asyncio.create_task(batcher.submit([[0]], deadline=soon(60)))
        await until(lambda: compute.batches == [[0]])
        patient = [asyncio.create_task(batcher.submit([[i]], deadline=soon(60))) for i in (1, 2)]
        hurry = asyncio.create_task(batcher.submit([[9]], deadline=soon(2.5)))
        await until(lambda: batcher.depth == 3)
        with pytest.raises(ShedError, match="deadline"):
            await batcher.submit([[10]], deadline=soon(2.5))
        compute.go.set()
        await asyncio.gather(first, hurry, *patient)
    assert sorted(compute.batches) == [[0], [1], [2], [9]]
