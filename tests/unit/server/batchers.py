"""A batcher with a real thread and a compute function that says what ran together."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np

from cycle_server.batching.batcher import Batcher
from cycle_server.batching.cost import Cost
from cycle_server.batching.errors import ShedReason
from cycle_server.batching.observer import Observer
from cycle_server.batching.policy import Limits
from cycle_server.batching.rate import RateLimits
from cycle_server.items import Items

FAST = Cost(fixed_seconds=0.0, token_seconds=1e-6)


class Recorder:
    """Answers each text with its first token; can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None

    def __call__(self, tokens: Items, /) -> np.ndarray:
        self.batches.append([text[0] for text in tokens])
        assert self.go.wait(10)
        if self.error is not None:
            raise self.error
        return np.array([[float(text[0])] for text in tokens])


@asynccontextmanager
async def running(
    compute: Recorder,
    *,
    size: int = 4,
    delay_seconds: float = 0.0,
    queue_limit: int = 64,
    cost: Cost = FAST,
    rates: RateLimits | None = None,
    observer: Observer | None = None,
) -> AsyncIterator[Batcher]:
    limits = Limits(maximum_batch_size=size, maximum_delay_seconds=delay_seconds)
    batcher = Batcher(
        compute=compute, limits=limits, cost=cost, queue_limit=queue_limit, rates=rates, observer=observer
    )
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


class Counts(Observer):
    def __init__(self) -> None:
        self.sheds: Counter[ShedReason] = Counter()
        self.faults: Counter[bool] = Counter()
        self.texts = 0

    def batch(self, *, texts: int, seconds: float) -> None:
        assert seconds >= 0
        self.texts += texts

    def shed(self, reason: ShedReason) -> None:
        self.sheds[reason] += 1

    def fault(self, *, out_of_memory: bool) -> None:
        self.faults[out_of_memory] += 1
