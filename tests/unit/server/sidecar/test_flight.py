"""Single flight: who asks, who waits, and what a failure or a leaver does to the others."""

import asyncio

import pytest

from cycle_server.sidecar.breaker import FAILURES_TO_OPEN, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Breaker
from cycle_server.sidecar.flight import Flights
from tests.unit.server.sidecar.pods import URL, Pod, body


class Question:
    def __init__(self) -> None:
        self.asked = self.cancelled = 0
        self.go = asyncio.Event()

    async def __call__(self) -> int:
        self.asked += 1
        number = self.asked
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            await asyncio.sleep(0.05)  # its end takes a while
            raise
        return number


async def test_who_comes_while_a_left_flight_ends_starts_a_new_one() -> None:
    flights, ask = Flights[int](), Question()
    first = asyncio.create_task(flights.join(b"k", ask))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0.01)  # the flight is being cancelled
    assert ask.cancelled == 1
    second = asyncio.create_task(flights.join(b"k", ask))
    await asyncio.sleep(0.1)  # and has ended, which must not forget the second
    third = asyncio.create_task(flights.join(b"k", ask))
    await asyncio.sleep(0.01)
    ask.go.set()
    assert (await second, await third) == ((2, False), (2, True))
    assert len(flights) == 0


async def test_an_exception_reaches_all_who_wait_and_is_forgotten() -> None:
    flights = Flights[int]()

    async def fail() -> int:
        await asyncio.sleep(0.01)
        raise ValueError("no")

    results = await asyncio.gather(*(flights.join(b"k", fail) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3
    assert len(flights) == 0


async def test_a_crowd_does_not_fall_on_a_server_that_fails(pod: Pod) -> None:
    pod.upstream.statuses = [503] * 100
    pod.upstream.go.clear()
    tasks = [asyncio.create_task(pod.client.post(URL, data=body("a"))) for _ in range(50)]
    await asyncio.sleep(0.2)
    pod.upstream.go.set()
    answers = await asyncio.gather(*tasks)
    assert {answer.status for answer in answers} == {503}
    assert {answer.headers["Retry-After"] for answer in answers} == {"3"}
    assert len(pod.upstream.requests) == 3


async def test_followers_get_an_answer_once_the_server_gives_one(pod: Pod) -> None:
    pod.upstream.statuses = [503, 503]
    pod.upstream.go.clear()
    tasks = [asyncio.create_task(pod.client.post(URL, data=body("a"))) for _ in range(10)]
    await asyncio.sleep(0.2)
    pod.upstream.go.set()
    answers = await asyncio.gather(*tasks)
    assert sorted(answer.status for answer in answers) == [200] * 8 + [503] * 2
    assert len(pod.upstream.requests) == 3


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def breaker(clock: Clock) -> Breaker:
    return Breaker(clock=clock, uniform=lambda _low, high: high)


def test_the_breaker_opens_after_failures_in_a_row(clock: Clock) -> None:
    one = breaker(clock)
    for _ in range(FAILURES_TO_OPEN - 1):
        one.failed()
    one.succeeded()
    for _ in range(FAILURES_TO_OPEN - 1):
        one.failed()
    assert one.may_try()
    one.failed()
    assert not one.closed
    assert not one.may_try()


def test_after_a_pause_one_may_try_and_its_luck_decides(clock: Clock) -> None:
    one = breaker(clock)
    for _ in range(FAILURES_TO_OPEN + 5):  # some began before it opened
        one.failed()
    clock.now = FIRST_PAUSE_SECONDS
    assert [one.may_try(), one.may_try()] == [True, False]
    one.failed()
    clock.now += FIRST_PAUSE_SECONDS
    assert not one.may_try()
    clock.now += FIRST_PAUSE_SECONDS
    assert one.may_try()
    one.abandoned()
    assert one.may_try()
    one.succeeded()
    assert [one.may_try(), one.may_try(), one.closed] == [True] * 3


def test_pauses_grow_to_a_bound(clock: Clock) -> None:
    one = breaker(clock)
    for _ in range(FAILURES_TO_OPEN):
        one.failed()
    for _ in range(20):
        clock.now += LONGEST_PAUSE_SECONDS
        assert one.may_try()
        one.failed()
    clock.now += LONGEST_PAUSE_SECONDS - 0.01
    assert not one.may_try()
