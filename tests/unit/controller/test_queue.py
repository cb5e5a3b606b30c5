"""The queue with real tasks: mutual exclusion, retry, drain."""

import asyncio
from collections import Counter
from collections.abc import Callable

from cycleops.controller.queue import Key, KeyedQueue


def key(name: str) -> Key:
    return Key("CycleJob", "ns", name)


async def settle(condition: Callable[[], bool], timeout_seconds: float = 5.0) -> None:
    async with asyncio.timeout(timeout_seconds):
        while not condition():  # noqa: ASYNC110 - asks about the queue's effects, which set no event
            await asyncio.sleep(0.005)


async def test_one_pass_at_a_time_per_key_and_nothing_lost() -> None:
    running: Counter[Key] = Counter()
    finished: Counter[Key] = Counter()
    seen: dict[Key, int] = {}
    wanted: dict[Key, int] = {}

    async def run_pass(k: Key) -> None:
        running[k] += 1
        assert running[k] == 1
        seen[k] = wanted[k]
        await asyncio.sleep(0.002)
        running[k] -= 1
        finished[k] += 1

    queue = KeyedQueue(run_pass=run_pass, workers=4)
    task = asyncio.create_task(queue.run())
    for i in range(300):
        k = key(f"k{i % 7}")
        wanted[k] = i
        queue.add(k)
        if i % 10 == 0:
            await asyncio.sleep(0.001)
    await settle(lambda: seen == wanted)
    assert sum(finished.values()) < 300, "events of one key are folded together"
    await queue.drain(timeout_seconds=1.0)
    await task


async def test_failing_pass_is_retried_and_requeue_is_kept() -> None:
    tries: list[float] = []
    loop = asyncio.get_running_loop()

    async def run_pass(_: Key) -> float | None:
        tries.append(loop.time())
        if len(tries) == 1:
            raise RuntimeError("first")
        return 0.1 if len(tries) == 2 else None

    queue = KeyedQueue(run_pass=run_pass, workers=1)
    task = asyncio.create_task(queue.run())
    queue.add(key("a"))
    await settle(lambda: len(tries) == 3)
    assert 0.5 <= tries[1] - tries[0] <= 1.5
    assert 0.1 <= tries[2] - tries[1] <= 0.6
    await queue.drain(timeout_seconds=1.0)
    await task


async def test_drain_waits_for_passes_under_way_and_starts_none() -> None:
    started, ended = [], []

    async def run_pass(k: Key) -> None:
        started.append(k)
        await asyncio.sleep(0.2)
        ended.append(k)

    queue = KeyedQueue(run_pass=run_pass, workers=1)
    task = asyncio.create_task(queue.run())
    queue.add(key("a"))
    queue.add(key("b"))
    await settle(lambda: bool(started))
    assert await queue.drain(timeout_seconds=5.0) == 0
    await task
    assert started == ended == [key("a")]


async def test_drain_cuts_off_what_takes_too_long() -> None:
    async def run_pass(_: Key) -> None:
        await asyncio.sleep(60)

    queue = KeyedQueue(run_pass=run_pass, workers=1)
    task = asyncio.create_task(queue.run())
    queue.add(key("a"))
    await asyncio.sleep(0.05)
    assert await queue.drain(timeout_seconds=0.1) == 1
    await task


async def test_heartbeat_turns_while_a_pass_hangs() -> None:
    async def run_pass(_: Key) -> None:
        await asyncio.sleep(60)

    queue = KeyedQueue(run_pass=run_pass, workers=1)
    task = asyncio.create_task(queue.run())
    queue.add(key("a"))
    await asyncio.sleep(1.3)
    assert queue.stalled_seconds() < 1.2
    await queue.drain(timeout_seconds=0.0)
    await task
