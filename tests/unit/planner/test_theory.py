"""Balancing in the simulator against queues whose answers are known. Service times have mean 1 s.

Sources: L. Kleinrock, Queueing Systems I: GI/M/1 (6.4); join-the-shortest-queue by its Markov chain, solved here. One
stage by itself: test_single_stage.py.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from cycleops.planner.model import Algorithm
from cycleops.planner.queueing import erlang_c, mean_wait_seconds
from cycleops.planner.simulation.fleet import least_connections
from cycleops.planner.simulation.queues import serve_batches
from cycleops.planner.simulation.rules import Requests, Rules
from tests.unit.planner.queues import draws, exponential_levels, run, table

EXPONENTIAL = exponential_levels(1.0)

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


def test_round_robin_over_two_is_erlang_2_arrivals() -> None:
    """E2/M/1: the wait is sigma / (1 - sigma) with sigma = (2 load / (2 load + 1 - sigma))^2."""
    load, sigma = 0.8, 0.5
    for _ in range(200):
        sigma = (2 * load / (2 * load + 1 - sigma)) ** 2
    outcome = run(service=EXPONENTIAL, rate=2 * load, requests=2_000_000, replicas=2)
    assert outcome.queue.mean() == pytest.approx(sigma / (1 - sigma), rel=0.02)


def test_least_connections_with_one_dispatcher_is_the_shortest_queue() -> None:
    """Join the shortest of two queues, mean number in the system from the chain of both queue lengths; within 2 %."""
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
        service=EXPONENTIAL, rate=arrivals, requests=1_000_000, replicas=2, algorithm=Algorithm.LEAST_CONNECTIONS
    )
    assert outcome.total.mean() == pytest.approx(in_system / arrivals, rel=0.02)


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
            requests=300_000,
            replicas=replicas,
            algorithm=Algorithm.LEAST_CONNECTIONS,
            dispatchers=dispatchers,
        ).queue.mean()
        for dispatchers in (1, 2)
    )
    assert pooled < one < two < load / (1 - load)


def test_least_connections_batches_as_a_single_queue_does() -> None:
    """The two simulators, one event by event and one batch by batch, agree on a replica that gets everything."""
    numbers = draws(requests=5_000, seed=3)
    ready, nothing = np.cumsum(numbers.gaps), np.zeros(5_000)
    seconds = table(lambda size: EXPONENTIAL * (0.5 + 0.2 * size), maximum_batch=4)
    for delay, quota in ((0.0, 0.0), (0.7, 0.0), (0.3, 0.09)):
        rules = Rules(maximum_batch=4, delay_seconds=delay, quota_seconds=quota)
        alone = serve_batches(ready=ready, tokens=numbers.tokens, level=numbers.compute, table=seconds, rules=rules)
        requests = Requests(
            arrival=ready,
            ready=ready,
            after=nothing,
            queued=np.ones(5_000, dtype=bool),
            tokens=numbers.tokens,
            level=numbers.compute,
            beside_seconds=nothing,
            dispatcher=numbers.dispatcher,
            spread=numbers.spread,
        )
        together = least_connections(requests=requests, table=seconds, rules=rules, replicas=1, dispatchers=1)
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
