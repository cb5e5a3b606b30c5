"""One stage against theory: means and 99th percentiles within 2 %, at fixed seeds. Service times have mean 1 s.

Sources: L. Kleinrock, Queueing Systems I, M/M/1 (3.2), M/M/c (3.5), Pollaczek-Khinchine (5.6, 5.7), M/D/1 (problem
5.8); D. Gross, C. Harris, Fundamentals of Queueing Theory, bulk service (3.2), solved here by its Markov chain.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cycleops.planner.histograms import LEVELS
from cycleops.planner.queueing import erlang_c
from cycleops.planner.simulation.intervals import quantile
from cycleops.planner.simulation.queues import first_come_first_served, serve_batches
from cycleops.planner.simulation.rules import Rules
from tests.unit.planner.queues import exponential_levels, run, table

Array = NDArray[np.float64]
REQUESTS = 4_000_000
WARM_UP = 50_000
LOADS = [0.3, 0.6, 0.8]


def waits(service: Callable[[np.random.Generator], Array], *, load: float, servers: int = 1) -> tuple[Array, Array]:
    """Waits and times in the system of Poisson arrivals, after the warm-up."""
    stream = np.random.default_rng(5)
    arrival = np.cumsum(stream.standard_exponential(REQUESTS)) / (load * servers)
    seconds = service(stream)
    wait = first_come_first_served(arrival=arrival, service=seconds, servers=servers) - arrival
    return wait[WARM_UP:], (wait + seconds)[WARM_UP:]


def solved(beyond: Callable[[float], float], *, share: float = 0.01, most: float = 200.0) -> float:
    """Where a falling tail function crosses ``share``."""
    low, high = 0.0, most
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle) > share else (low, middle)
    return low


def exponential(stream: np.random.Generator) -> Array:
    return stream.standard_exponential(REQUESTS)


@pytest.mark.parametrize("load", LOADS)
def test_m_m_1(load: float) -> None:
    """T is exponential with rate 1 - load."""
    _, total = waits(exponential, load=load)
    assert total.mean() == pytest.approx(1 / (1 - load), rel=0.02)
    assert np.quantile(total, 0.99) == pytest.approx(math.log(100) / (1 - load), rel=0.02)


@pytest.mark.parametrize("servers", [2, 5, 10])
def test_m_m_c(servers: int) -> None:
    """Waits are 0, or with Erlang C's probability exponential with rate c (1 - load)."""
    load = 0.8
    wait, _ = waits(exponential, load=load, servers=servers)
    probability, rate = erlang_c(servers=servers, offered_load=load * servers), servers * (1 - load)
    assert wait.mean() == pytest.approx(probability / rate, rel=0.02)
    assert np.quantile(wait, 0.99) == pytest.approx(math.log(100 * probability) / rate, rel=0.02)


@pytest.mark.parametrize("load", LOADS)
def test_m_d_1(load: float) -> None:
    """The mean by Pollaczek-Khinchine, the tail by Erlang's formula."""

    def beyond(wait: float) -> float:
        terms = (
            (load * (k - wait)) ** k / math.factorial(k) * math.exp(-load * (k - wait)) for k in range(int(wait) + 1)
        )
        return 1 - (1 - load) * math.fsum(terms)

    wait, _ = waits(lambda _stream: np.ones(REQUESTS), load=load)
    assert wait.mean() == pytest.approx(load / (2 * (1 - load)), rel=0.02)
    assert np.quantile(wait, 0.99) == pytest.approx(solved(beyond, most=12.0), rel=0.02)


@pytest.mark.parametrize("load", LOADS)
def test_m_g_1(load: float) -> None:
    """Service of two exponentials (CV^2 3.06). The Pollaczek-Khinchine transform then has two poles: the wait's tail is
    a sum of two exponentials, with the poles' residues."""
    share, rates = 0.9, np.array([1.5, 0.25])
    shares = np.array([share, 1 - share])
    mean = float((shares / rates).sum())
    second = float((2 * shares / rates**2).sum())

    def service(stream: np.random.Generator) -> Array:
        rate = np.where(stream.random(REQUESTS) < share, rates[0], rates[1])
        return stream.standard_exponential(REQUESTS) / rate / mean

    a, b = rates * mean  # service of mean 1
    # W(s) = (1 - load) s / (s - load + load B(s)), B(s) = p a / (s + a) + q b / (s + b): s cancels, two poles are left.
    below = [1.0, a + b - load, a * b - load * (share * b + (1 - share) * a)]
    poles = np.roots(below)
    residues = (1 - load) * (poles + a) * (poles + b) / np.array([poles[0] - poles[1], poles[1] - poles[0]])
    wait, _ = waits(service, load=load)
    assert wait.mean() == pytest.approx(load * second / mean**2 / (2 * (1 - load)), rel=0.02)
    p99 = solved(lambda w: float((residues / -poles * np.exp(poles * w)).sum()))
    assert np.quantile(wait, 0.99) == pytest.approx(p99, rel=0.02)


def batch_chain(arrivals: float, batch: int) -> tuple[float, Array]:
    """Up to ``batch`` at once, exponential batches of mean 1, nothing waits to fill one: the probabilities that the
    server is idle and, while it is busy, that so many wait."""
    longest = 400
    generator = np.zeros((longest + 1, longest + 1))  # 0: idle; n + 1: busy, n wait
    for n in range(longest):
        if n + 1 < longest:
            generator[n + 1, n + 2] += arrivals
        generator[n + 1, n - min(n, batch) + 1 if n else 0] += 1.0
    generator[0, 1] += arrivals
    generator -= np.diag(generator.sum(axis=1))
    system = generator.T.copy()
    system[-1] = 1.0
    shares = np.linalg.solve(system, np.append(np.zeros(longest), 1.0))
    return float(shares[0]), shares[1:]


@pytest.mark.parametrize(("arrivals", "batch"), [(2.8, 4), (5.0, 8)])
def test_batch_service(arrivals: float, batch: int) -> None:
    """Who comes while n wait has floor(n / batch) + 1 batches in front: the wait is an Erlang mixture (PASTA)."""
    idle, waiting = batch_chain(arrivals, batch)
    ahead = np.arange(len(waiting)) // batch + 1

    def beyond(wait: float) -> float:
        steps = np.arange(ahead.max())
        erlang = np.cumsum(np.exp(-wait + steps * math.log(max(wait, 1e-12)) - [math.lgamma(k + 1) for k in steps]))
        return float((waiting * erlang[ahead - 1]).sum())

    stream, levels = np.random.default_rng(4), 1 << 16
    ready = np.cumsum(stream.standard_exponential(REQUESTS)) / arrivals
    served = serve_batches(
        ready=ready,
        tokens=np.zeros(REQUESTS, dtype=np.int64),
        level=stream.integers(0, levels, REQUESTS),
        table=table(exponential_levels(1.0, levels=levels), maximum_batch=batch),
        rules=Rules(maximum_batch=batch, delay_seconds=0.0),
    )
    wait = (served.start - ready)[WARM_UP:]
    assert wait.mean() == pytest.approx(float((np.arange(len(waiting)) * waiting).sum()) / arrivals, rel=0.02)
    assert np.quantile(wait, 0.99) == pytest.approx(solved(beyond), rel=0.02)
    assert served.busy_seconds / ready[-1] == pytest.approx(1 - idle, rel=0.01)


@pytest.mark.parametrize("load", LOADS)
def test_the_whole_path_of_one_replica_is_m_m_1(load: float) -> None:
    """Through dispatchers, levels and batches of one, as a plan is simulated."""
    outcome = run(service=exponential_levels(1.0), rate=load, requests=3_000_000)
    assert outcome.total.mean() == pytest.approx(1 / (1 - load), rel=0.02)
    assert np.quantile(outcome.total, 0.99) == pytest.approx(math.log(100) / (1 - load), rel=0.02)
    assert outcome.utilization == pytest.approx(load, rel=0.01)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """The p99 of M/M/1 at half load, of 400 simulations: 95 % within, less what chance and short batches take."""
    truth, inside = math.log(100) / 0.5, 0
    for seed in range(400):
        stream = np.random.default_rng(seed)
        arrival = np.cumsum(stream.standard_exponential(21_000)) / 0.5
        service = stream.standard_exponential(21_000)
        start = first_come_first_served(arrival=arrival, service=service)
        estimate = quantile((start + service - arrival)[1_000:], share=0.99)
        inside += abs(estimate.value - truth) <= estimate.half_width
    assert 0.91 <= inside / 400 <= 0.98


def test_a_wrong_question_is_refused() -> None:
    with pytest.raises(ValueError, match="equally long"):
        first_come_first_served(arrival=np.zeros(2), service=np.zeros(3))
    with pytest.raises(ValueError, match="at least 1"):
        first_come_first_served(arrival=np.zeros(2), service=np.zeros(2), servers=0)


def test_a_cpu_limit_stalls_only_what_outruns_it() -> None:
    """0.05 s of CPU per 0.1 s: what is lightly loaded never waits for it, back to back takes twice as long."""
    seconds = table(np.full(LEVELS, 0.02), maximum_batch=1)
    rules = Rules(maximum_batch=1, delay_seconds=0.0, quota_seconds=0.05)
    nothing = np.zeros(500, dtype=np.int64)

    def served(gap: float) -> tuple[Array, float]:
        ready = np.arange(500) * gap
        result = serve_batches(ready=ready, tokens=nothing + 8, level=nothing, table=seconds, rules=rules)
        return result.compute, float(result.start[-1] + result.compute[-1])

    paced, _ = served(0.1)
    np.testing.assert_allclose(paced, 0.02)
    stalled, end = served(0.0)
    assert stalled.max() == pytest.approx(0.07)  # 10 ms, the empty bucket for 50 ms, 10 ms
    assert end == pytest.approx(500 * 0.02 / 0.5, rel=0.01)
