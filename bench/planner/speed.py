"""Measured here: seconds of a plan and of a re-plan, simulated requests per second. One core, CPU time."""

import gc
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from statistics import median

import numpy as np

from bench.planner.problem import question
from cycleops.planner import Planner
from cycleops.planner.model import Algorithm
from cycleops.planner.simulation import fleet
from cycleops.planner.simulation.queues import first_come_first_served, serve_batches
from cycleops.planner.simulation.rules import Requests, Rules, table_of

REQUESTS = 2_000_000
REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Of one simulation, in requests per second of one core; ``with_drawing`` counts the random numbers too."""

    name: str
    simulated_per_second: float
    with_drawing_per_second: float


@dataclass(frozen=True, kw_only=True)
class Speed:
    """``first_plan_seconds``: in a process that has planned nothing, the compiled loops read from disk."""

    first_plan_seconds: float
    plan_seconds: float
    replan_seconds: float
    candidates: int
    rates: tuple[Rate, ...]

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def measure() -> Speed:
    asked, planner = question(), Planner()

    def ask(rate: float) -> None:
        result = planner.plan(
            workload=replace(asked.workload, rate_per_second=rate),
            budget=asked.budget,
            candidates=asked.candidates,
            limits=asked.limits,
            algorithm=Algorithm.LEAST_CONNECTIONS,
        )
        assert result.plan is not None, result.sentences

    first = seconds_of(lambda: ask(400.0))
    fresh = []
    for _ in range(REPEATS):
        asked = question()  # new profiles: nothing of them is known yet
        fresh.append(seconds_of(lambda: ask(400.0)))
    again = [seconds_of(lambda rate=rate: ask(rate)) for rate in (440.0, 380.0, 500.0, 350.0, 420.0)]  # type: ignore[misc]
    return Speed(
        first_plan_seconds=first,
        plan_seconds=median(fresh),
        replan_seconds=median(again),
        candidates=len(asked.candidates),
        rates=tuple(_rates()),
    )


def seconds_of(work: Callable[[], object]) -> float:
    """CPU seconds of this thread: what else runs on the machine doesn't count."""
    gc.collect()
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def _rates() -> list[Rate]:
    return [
        *(_single_stage(servers) for servers in (1, 4, 16)),
        _batches(),
        *(_fleet(replicas, algorithm) for replicas in (4, 16) for algorithm in Algorithm),
    ]


def _rate(name: str, drawing: float, work: Callable[[], object], requests: int = REQUESTS) -> Rate:
    work()  # compiled, pages touched
    seconds = median(seconds_of(work) for _ in range(REPEATS))
    return Rate(
        name=name,
        simulated_per_second=requests / seconds,
        with_drawing_per_second=requests / (seconds + drawing),
    )


def _single_stage(servers: int) -> Rate:
    stream = np.random.default_rng(1)
    begin = time.thread_time()
    arrival = np.cumsum(stream.standard_exponential(REQUESTS)) / (0.8 * servers)
    service = stream.standard_exponential(REQUESTS)
    drawing = time.thread_time() - begin
    name = f"single stage, {servers} server" + ("s" if servers > 1 else "")
    return _rate(name, drawing, lambda: first_come_first_served(arrival=arrival, service=service, servers=servers))


def _requests(count: int, replicas: int) -> Requests:
    stream = np.random.default_rng(2)
    arrival = np.cumsum(stream.standard_exponential(count)) / (0.7 * replicas)
    return Requests(
        arrival=arrival,
        ready=arrival + 0.05 * stream.random(count),
        after=np.full(count, 0.05),
        queued=np.ones(count, dtype=bool),
        tokens=np.full(count, 8),
        level=stream.integers(0, 256, count),
        beside_seconds=np.zeros(count),
        dispatcher=stream.integers(0, 2, count),
        spread=stream.random(count),
    )


_RULES = Rules(maximum_batch=4, delay_seconds=0.0)
# A batch of four takes twice as long as a single one; levels around 1.
_TABLE = table_of(
    (0.4 + 0.2 * np.arange(5))[:, None, None] * np.linspace(0.8, 1.2, 256)[None, None, :], np.zeros(9, dtype=np.int64)
)


def _batches() -> Rate:
    begin = time.thread_time()
    requests = _requests(REQUESTS, 1)
    drawing = time.thread_time() - begin
    return _rate(
        "one replica, batches of up to 4",
        drawing,
        lambda: serve_batches(
            ready=requests.ready, tokens=requests.tokens, level=requests.level, table=_TABLE, rules=_RULES
        ),
    )


def _fleet(replicas: int, algorithm: Algorithm) -> Rate:
    count = REQUESTS // 4
    begin = time.thread_time()
    requests = _requests(count, replicas)
    drawing = time.thread_time() - begin
    shape = {"requests": requests, "table": _TABLE, "rules": _RULES, "replicas": replicas, "dispatchers": 2}
    runs: dict[Algorithm, Callable[[], object]] = {
        Algorithm.ROUND_ROBIN: lambda: fleet.round_robin(**shape),
        Algorithm.LEAST_CONNECTIONS: lambda: fleet.least_connections(**shape),
        Algorithm.CONSISTENT_HASH: lambda: fleet.consistent_hash(**shape, load_percent=150),
    }
    return _rate(f"{replicas} replicas, {algorithm.value}, batches of up to 4", drawing, runs[algorithm], count)
