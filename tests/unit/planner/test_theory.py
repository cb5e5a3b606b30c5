"""The simulator against queues whose answers are known. Service times have mean 1 s, so a wait is in service times.

Sources: L. Kleinrock, Queueing Systems I: M/M/1 (3.2), Pollaczek-Khinchine (5.6), GI/M/1 (6.4); the batch queue and
join-the-shortest-queue by their Markov chains, solved here.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from cycleops.planner.batching import Lengths, serve
from cycleops.planner.least_connections import Dispatch
from cycleops.planner.model import Algorithm
from cycleops.planner.queueing import erlang_c, mean_wait_seconds
from cycleops.planner.service_time import LEVELS
from tests.unit.planner.queues import draws, exponential_levels, run

ONE = np.ones(LEVELS)
EXPONENTIAL = exponential_levels(1.0)
TWO_POINT = np.where(np.arange(LEVELS) < LEVELS * 3 // 4, 0.5, 2.5)  # mean 1, CV^2 0.75

State = tuple[int, ...]


def stationary(states: Sequence[State], rates: Callable[[State], Iterator[tuple[State, float]]]) -> dict[State, float]:
    """The stationary distribution of a Markov chain; transitions out of ``states`` are left out."""
    index = {state: i for i, state in enumerate(states)}
    generator = np.zeros((len(states), len(states)))
    for state, i in index.items():
        for target, rate in rates(state):
            if target in index:
                generator[i, index[target]] += rate
                generator[i, i] -= rate
    system = generator.T.copy()
    system[-1] = 1.0  # one balance equation follows from the others; the shares add up to 1 instead
    solution = np.linalg.solve(system, np.append(np.zeros(len(states) - 1), 1.0))
    return dict(zip(states, solution.tolist(), strict=True))


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_m_m_1(load: float) -> None:
    """T is exponential with rate 1 - load: mean and p99 within 3 %."""
    outcome = run(service=EXPONENTIAL, rate=load, requests=600_000)
    assert outcome.total.mean() == pytest.approx(1 / (1 - load), rel=0.03)
    assert np.quantile(outcome.total, 0.99) == pytest.approx(math.log(100) / (1 - load), rel=0.03)
    assert outcome.utilization == pytest.approx(load, rel=0.01)


@pytest.mark.parametrize("service", [ONE, TWO_POINT], ids=["M/D/1", "M/G/1"])
@pytest.mark.parametrize("load", [0.3, 0.8])
def test_m_g_1(service: np.ndarray, load: float) -> None:
    """Pollaczek-Khinchine: the mean wait is load x (1 + CV^2) / (2 (1 - load)); within 2 %."""
    outcome = run(service=service, rate=load, requests=600_000)
    cv2 = float(service.var() / service.mean() ** 2)
    assert outcome.queue.mean() == pytest.approx(load * (1 + cv2) / (2 * (1 - load)), rel=0.02)


def test_m_d_1_waits_at_p99() -> None:
    """The wait of M/D/1 by Erlang's formula (Kleinrock, problem 5.8), solved for p99; within 3 %."""
    load = 0.7

    def below(wait: float) -> float:
        terms = (
            (load * (k - wait)) ** k / math.factorial(k) * math.exp(-load * (k - wait)) for k in range(int(wait) + 1)
        )
        return (1 - load) * math.fsum(terms)

    low, high = 0.0, 12.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < 0.99 else (low, middle)
    outcome = run(service=ONE, rate=load, requests=600_000)
    assert np.quantile(outcome.queue, 0.99) == pytest.approx(low, rel=0.03)


def test_random_spreading_is_independent_m_m_1() -> None:
    outcome = run(service=EXPONENTIAL, rate=3 * 0.7, requests=600_000, replicas=3, algorithm=Algorithm.CONSISTENT_HASH)
    assert outcome.queue.mean() == pytest.approx(0.7 / 0.3, rel=0.03)


def test_round_robin_over_two_is_erlang_2_arrivals() -> None:
    """E2/M/1: the wait is sigma / (1 - sigma) with sigma = (2 load / (2 load + 1 - sigma))^2."""
    load, sigma = 0.8, 0.5
    for _ in range(200):
        sigma = (2 * load / (2 * load + 1 - sigma)) ** 2
    outcome = run(service=EXPONENTIAL, rate=2 * load, requests=600_000, replicas=2)
    assert outcome.queue.mean() == pytest.approx(sigma / (1 - sigma), rel=0.03)


def test_least_connections_with_one_dispatcher_is_the_shortest_queue() -> None:
    """Join the shortest of two queues, mean number in the system from the chain of both queue lengths; within 3 %."""
    arrivals, longest = 1.4, 45

    def rates(state: State) -> Iterator[tuple[State, float]]:
        a, b = state
        if a == b:
            yield (a + 1, b), arrivals / 2
            yield (a, b + 1), arrivals / 2
        else:
            yield ((a + 1, b) if a < b else (a, b + 1)), arrivals
        if a:
            yield (a - 1, b), 1.0
        if b:
            yield (a, b - 1), 1.0

    # Far from the diagonal nothing ever is, so a narrow band of states holds the chain.
    states = [(a, b) for a in range(longest) for b in range(longest) if abs(a - b) <= 8]
    chain = stationary(states, rates)
    in_system = sum((a + b) * share for (a, b), share in chain.items())
    outcome = run(
        service=EXPONENTIAL, rate=arrivals, requests=150_000, replicas=2, algorithm=Algorithm.LEAST_CONNECTIONS
    )
    assert outcome.total.mean() == pytest.approx(in_system / arrivals, rel=0.03)


def test_least_connections_lies_between_one_queue_and_blind_spreading() -> None:
    """M/M/4 is its lower bound. Two dispatchers know less than one, and still do better than chance."""
    load, replicas = 0.8, 4
    pooled = mean_wait_seconds(
        rate_per_second=load * replicas, servers=replicas, service_seconds=1.0, arrival_cv2=1.0, service_cv2=1.0
    )
    one, two = (
        run(
            service=EXPONENTIAL,
            rate=load * replicas,
            requests=60_000,
            replicas=replicas,
            algorithm=Algorithm.LEAST_CONNECTIONS,
            dispatchers=dispatchers,
        ).queue.mean()
        for dispatchers in (1, 2)
    )
    assert pooled < one < two < load / (1 - load)


def test_batch_queue() -> None:
    """Up to four at once, exponential batches, nothing waits to fill one: the chain of (busy, waiting); within 3 %."""
    arrivals, batch, longest = 2.8, 4, 400

    def rates(state: State) -> Iterator[tuple[State, float]]:
        busy, waiting = state
        yield ((1, waiting + 1) if busy else (1, 0)), arrivals
        if busy:
            yield ((1, waiting - min(waiting, batch)) if waiting else (0, 0)), 1.0

    chain = stationary([(0, 0), *((1, n) for n in range(longest))], rates)
    waiting = sum(n * share for (_, n), share in chain.items())
    outcome = run(service=EXPONENTIAL, rate=arrivals, requests=300_000, maximum_batch=batch)
    assert outcome.queue.mean() == pytest.approx(waiting / arrivals, rel=0.03)
    assert outcome.utilization == pytest.approx(1 - chain[0, 0], rel=0.02)


def test_least_connections_batches_as_a_single_queue_does() -> None:
    """The two simulators, one event by event and one batch by batch, agree on a replica that gets everything."""

    numbers = draws(requests=5_000, seed=3)
    ready = np.cumsum(numbers.gaps)
    table = {size: [(EXPONENTIAL * (0.5 + 0.2 * size)).tolist()] for size in range(1, 5)}
    lengths = Lengths(tokens=numbers.tokens, bucket=numbers.bucket, bucket_of=numbers.bucket_of)
    for delay in (0.0, 0.7):
        alone = serve(
            ready=ready, lengths=lengths, level=numbers.compute, table=table, maximum_batch=4, delay_seconds=delay
        )
        together = Dispatch(replicas=1, dispatchers=1, maximum_batch=4, delay_seconds=delay, table=table).run(
            arrival=ready,
            ready=ready,
            after=np.zeros_like(ready),
            dispatcher=numbers.dispatcher,
            lengths=lengths,
            level=numbers.compute,
            queued=~numbers.hit,
        )
        np.testing.assert_allclose(together.start, alone.start)
        np.testing.assert_allclose(together.compute, alone.compute)
        assert together.batches == alone.batches


@pytest.mark.parametrize(
    ("servers", "load", "waits"), [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (3, 2.0, 4 / 9), (10, 8.0, 0.4092)]
)
def test_erlang_c(servers: int, load: float, waits: float) -> None:
    """Values of the formula by hand, and of the printed tables."""
    assert erlang_c(servers=servers, offered_load=load) == pytest.approx(waits, abs=1e-4)


def test_allen_cunneen_is_exact_where_it_should_be() -> None:
    def wait(servers: int, rate: float, service_cv2: float) -> float:
        return mean_wait_seconds(
            rate_per_second=rate, servers=servers, service_seconds=1.0, arrival_cv2=1.0, service_cv2=service_cv2
        )

    assert wait(1, 0.8, 0.0) == pytest.approx(0.8 / (2 * 0.2))  # M/D/1
    assert wait(1, 0.8, 1.0) == pytest.approx(0.8 / 0.2)  # M/M/1
    assert wait(2, 1.0, 1.0) == pytest.approx(1 / 3)  # M/M/2
    assert math.isinf(wait(2, 2.0, 1.0))
