"""The service of the policies' bench: one model's profile, its plan, and what the controllers may know of both.

The profile is synthetic, with the shape of measured ones (a batch costs less than its requests alone, times have a
tail). The replayed servers draw from the same distributions; a trace may make them slower than the profile says.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bench.planner.replay import Requests, Server
from bench.planner.traces import DECLARED, Trace
from cycle_wire.profile import Histogram, Pace, Profile, ProfileRow
from cycleops.planner import HardwareOption, Settings, Workload
from cycleops.planner.adaptation import Attainment, tabulate
from cycleops.planner.histograms import LEVELS
from cycleops.planner.service_time import ServiceTimes, service_times
from cycleops.planner.simulate import Station
from cycleops.planner.traffic import Draws, draw

BASE_SECONDS = 0.12
BATCH = 8
BUDGET_MILLISECONDS = 400.0
PERCENTILE = 99.0
STARTUP_SECONDS = 30.0
MAXIMUM_REPLICAS = 12
TICK_SECONDS = 15.0
_SHED_AT_BUDGETS = 4.0  # as the operator sets the server up
_LENGTHS = (8, 16, 32, 64)


def _histogram(mean_seconds: float, *, cv: float, seed: int) -> Histogram:
    sigma = np.sqrt(np.log1p(cv**2))
    times = np.random.default_rng(seed).lognormal(np.log(mean_seconds) - sigma**2 / 2, sigma, 400)
    return Histogram.of(times.tolist())


def profile() -> Profile:
    """Compute: a fixed part, and one that goes with the tokens of the batch."""
    rows = [
        ProfileRow(
            batch_size=batch,
            sequence_length=length,
            pace=pace,
            pre=_histogram(0.0005, cv=0.1, seed=1),
            compute=_histogram(BASE_SECONDS * (0.4 + 0.6 * batch * length / 32), cv=0.12, seed=batch * 1000 + length),
            post=_histogram(0.0002, cv=0.1, seed=2),
        )
        for batch in range(1, BATCH + 1)
        for length in _LENGTHS
        for pace in Pace
    ]
    return Profile(
        model_digest="sha256:" + "0" * 64, variant="bench", hardware_class="bench", hardware_class_hash="none",
        image="none", server_settings_hash="none", rows=rows, overhead=_histogram(0.003, cv=0.2, seed=3),
        cache_hit=_histogram(0.001, cv=0.2, seed=4), metrics=[], parameters=0, size_bytes=0, sparsity=0,
        memory_bytes=0, startup_seconds=STARTUP_SECONDS, batch_invariant=True, neighbour_difference=0, threads=1,
        processor="synthetic", measured_at=datetime(2026, 11, 25, tzinfo=UTC),
    )  # fmt: skip


WORKLOAD = Workload(rate_per_second=DECLARED, input_tokens_p50=16, input_tokens_p99=48)


@cache
def times() -> ServiceTimes:
    return service_times(profile())


@cache
def attainment() -> Attainment:
    """What the planner expects of 1 to MAXIMUM_REPLICAS: all that a controller knows of the service."""
    return tabulate(
        times=times(),
        hardware=HardwareOption(name="bench", cost_per_hour=1.0),
        workload=WORKLOAD,
        budget_milliseconds=BUDGET_MILLISECONDS,
        batch_size=BATCH,
        delay_milliseconds=0.0,
        maximum_replicas=MAXIMUM_REPLICAS,
        settings=Settings(requests=40_000),
    )


@dataclass(frozen=True, kw_only=True)
class Played:
    """A trace with its requests drawn: every policy gets the same ones."""

    trace: Trace
    requests: Requests


def play(trace: Trace, *, seed: int) -> Played:
    """Lengths and luck as the planner draws them (traffic.draw), arrivals from the trace."""
    arrival = trace.arrivals(np.random.default_rng([seed, 1]))
    draws = draw(workload=WORKLOAD, requests=len(arrival), dispatchers=2, seed=seed)
    return Played(trace=trace, requests=requests_of(draws, arrival))


def requests_of(draws: Draws, arrival: NDArray[np.float64]) -> Requests:
    station = station_of(draws)
    beside = station.overhead[draws.overhead] + station.balancer_overhead_seconds
    beside = beside + station.pre[draws.bucket, draws.pre] + station.post[draws.post]
    return Requests(
        arrival=arrival, level=draws.compute, tokens=draws.tokens, beside_seconds=beside, dispatcher=draws.dispatcher
    )


def station_of(draws: Draws) -> Station:
    lengths, known = draws.bucket_lengths, times()
    return Station(
        compute=known.table(lengths=lengths, bucket_of=draws.bucket_of, maximum_batch=BATCH, heavy=0.0),
        pre=known.pre_table(lengths=lengths, heavy=0.0),
        post=known.post_levels(heavy=0.0),
        overhead=known.overhead,
        cache_hit=known.cache_hit,
        balancer_overhead_seconds=Settings().balancer_overhead_seconds,
    )


def server_of(draws_tokens: NDArray[np.int64]) -> Server:
    """``draws_tokens``: the lengths that will be asked for; compute is tabled for each of them."""
    longest = int(draws_tokens.max())
    lengths = np.arange(longest + 1, dtype=float)
    table = np.stack(
        [times().compute_quantiles(batch_size=size, lengths=lengths, heavy=0.0) for size in range(1, BATCH + 1)]
    )
    assert table.shape[-1] == LEVELS
    full = float(table[-1, int(draws_tokens.mean())].mean())
    return Server(
        compute=table,
        bucket_of=np.arange(longest + 1),
        maximum_batch=BATCH,
        queue_limit=max(int(_SHED_AT_BUDGETS * BUDGET_MILLISECONDS / 1000 / full * BATCH), BATCH),
        budget_seconds=BUDGET_MILLISECONDS / 1000,
    )
