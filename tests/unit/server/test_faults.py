"""What the batcher does when computing fails, hangs or ends: faults are injected into the compute function."""

import asyncio
import threading

import numpy as np
import pytest

from cycle_server.batching.batcher import Batcher, ShedError
from cycle_server.batching.errors import ShedReason
from cycle_server.batching.execution import execute, is_out_of_memory
from cycle_server.batching.policy import Limits
from cycle_server.items import Items
from tests.unit.server.batchers import FAST, Counts, Recorder, running, soon, until

NO_MEMORY = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."


class Limited:
    """Runs out of memory above ``most`` texts; can't compute a text that starts with ``poison``."""

    def __init__(self, *, most: int = 100, poison: int = -1) -> None:
        self.most, self.poison, self.sizes = most, poison, []  # type: tuple[int, int, list[int]]

    def __call__(self, tokens: Items, /) -> np.ndarray:
        self.sizes.append(len(tokens))
        if len(tokens) > self.most:
            raise RuntimeError(NO_MEMORY)
        if any(text[0] == self.poison for text in tokens):
            raise ArithmeticError("no")
        return np.array([[float(text[0])] for text in tokens])


def texts(count: int) -> list[list[int]]:
    return [[i] for i in range(count)]


def test_a_batch_that_does_not_fit_into_memory_runs_by_halves() -> None:
    compute = Limited(most=4)
    done = execute(compute, texts(7))
    assert compute.sizes == [7, 4, 3]
    for first, last in ((0, 1), (2, 6), (0, 7), (4, 7)):
        ran = done.of(first, last)
        assert not isinstance(ran, Exception)
        assert ran.logits[:, 0].tolist() == [float(i) for i in range(first, last)]
    assert [is_out_of_memory(fault) for fault in done.faults] == [True]
    assert done.seconds is None, "nothing is learned from it"


def test_it_is_halved_once_only() -> None:
    compute = Limited(most=1)
    done = execute(compute, texts(8))
    assert compute.sizes == [8, 4, 4]
    assert isinstance(done.of(0, 1), RuntimeError)
    assert len(done.faults) == 3


def test_a_text_that_cannot_be_computed_takes_its_half_along_only() -> None:
    done = execute(Limited(poison=1), texts(4))
    assert isinstance(done.of(0, 1), ArithmeticError)
    assert isinstance(done.of(1, 3), ArithmeticError), "a request is answered in whole or not at all"
    rest = done.of(2, 4)
    assert not isinstance(rest, Exception)
    assert rest.logits[:, 0].tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError(NO_MEMORY), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("could not create a memory object"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a primitive descriptor for an inner product"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_are_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


async def test_too_little_memory_is_503_and_the_server_goes_on() -> None:
    compute, counts = Limited(most=2), Counts()
    batcher = Batcher(
        compute=compute,
        limits=Limits(maximum_batch_size=8, maximum_delay_seconds=0.0),
        cost=FAST,
        queue_limit=64,
        observer=counts,
    )
    batcher.start()
    with pytest.raises(ShedError, match="memory") as shed:
        await batcher.submit(texts(8), deadline=soon())
    assert shed.value.http_status == 503
    assert shed.value.retry_after_seconds > 0
    assert (await batcher.submit(texts(4), deadline=soon())).logits[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert (await batcher.submit(texts(1), deadline=soon())).logits[0, 0] == 0.0
    await asyncio.to_thread(batcher.stop)
    assert counts.sheds == {ShedReason.MEMORY: 1}
    assert counts.faults[True] == 4


async def test_a_server_that_can_never_allocate_again_says_so() -> None:
    compute = Limited(most=1)
    limits = Limits(maximum_batch_size=8, maximum_delay_seconds=0.0)
    batcher = Batcher(compute=compute, limits=limits, cost=FAST, queue_limit=64)
    batcher.start()
    for _ in range(20):  # half of them: too large for its memory, but it computes the others
        with pytest.raises(ShedError, match="memory"):
            await batcher.submit(texts(8), deadline=soon())
        await batcher.submit(texts(1), deadline=soon())
        assert not batcher.is_stuck()
    compute.most = 0
    for _ in range(10):
        with pytest.raises(ShedError):
            await batcher.submit(texts(1), deadline=soon())
    await until(batcher.is_stuck)
    await asyncio.to_thread(batcher.stop)


async def test_a_failed_batch_fails_its_requests_and_no_others() -> None:
    compute, counts = Recorder(), Counts()
    compute.error = ArithmeticError("no")
    async with running(compute, observer=counts) as batcher:
        with pytest.raises(ArithmeticError):
            await batcher.submit([[1]], deadline=soon())
        compute.error = None
        assert (await batcher.submit([[2]], deadline=soon())).logits[0, 0] == 2.0
    assert counts.faults == {False: 1}


async def test_a_hung_computation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cycle_server.batching.batcher.STUCK_SECONDS", 0.2)
    compute, counts = Recorder(), Counts()
    compute.go.clear()
    async with running(compute, observer=counts) as batcher:
        assert not batcher.is_stuck()
        task = asyncio.create_task(batcher.submit([[0]], deadline=soon()))
        await until(batcher.is_stuck)
        with pytest.raises(ShedError, match="hangs"):
            await batcher.submit([[1]], deadline=soon())
        compute.go.set()
        await task
        await until(lambda: not batcher.is_stuck())
        await batcher.submit([[2]], deadline=soon())
    assert counts.sheds == {ShedReason.STUCK: 1}


async def test_behind_a_hung_computation_nobody_waits_beyond_the_deadline() -> None:
    compute, counts = Recorder(), Counts()
    compute.go.clear()
    async with running(compute, observer=counts) as batcher:
        first = asyncio.create_task(batcher.submit([[0]], deadline=soon()))
        await until(lambda: compute.batches == [[0]])
        with pytest.raises(ShedError, match="deadline"):
            await batcher.submit([[1]], deadline=soon(0.05))
        assert not compute.go.is_set()
        assert batcher.depth == 0
        compute.go.set()
        await first
    assert counts.sheds == {ShedReason.LATE: 1}


async def test_a_compute_thread_that_ended_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def end(_: Items, /) -> np.ndarray:
        raise SystemExit

    limits = Limits(maximum_batch_size=1, maximum_delay_seconds=0.0)
    batcher = Batcher(compute=end, limits=limits, cost=FAST, queue_limit=8)
    batcher.start()
    task = asyncio.create_task(batcher.submit([[0]], deadline=soon()))
    await until(batcher.is_stuck)
    task.cancel()
