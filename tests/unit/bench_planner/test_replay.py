"""The replay of the policies' bench: the planner's queue at a steady rate, and nothing from the future."""

from dataclasses import replace

import numpy as np
import pytest

from bench.planner import service
from bench.planner.loop import run
from bench.planner.peers import Seen, Static
from bench.planner.replay import Replay, Requests
from bench.planner.traces import STEP_SECONDS, Trace, step
from cycleops.planner.model import Algorithm
from cycleops.planner.simulate import Shape, simulate
from cycleops.planner.traffic import draw


def open_all(replay: Replay) -> None:
    for slot in range(replay.slots):
        replay.open_slot(slot, ready_at=0.0)


@pytest.mark.parametrize(("replicas", "load"), [(1, 0.5), (2, 0.7), (5, 0.8)])
def test_at_a_steady_rate_it_agrees_with_the_planner(replicas: int, load: float) -> None:
    """The same arrivals, lengths and luck in both; only the order of tokenizing differs."""
    rate = load * replicas * 21.0
    workload = replace(service.WORKLOAD, rate_per_second=rate)
    draws = draw(workload=workload, requests=40_000, dispatchers=2, seed=5)
    shape = Shape(
        replicas=replicas,
        maximum_batch=service.BATCH,
        delay_seconds=0.0,
        algorithm=Algorithm.LEAST_CONNECTIONS,
        dispatchers=2,
    )
    planned = simulate(draws=draws, station=service.station_of(draws), shape=shape, rate_per_second=rate)
    asked = service.requests_of(draws, np.cumsum(draws.gaps) / rate)
    replay = Replay(requests=asked, server=service.server_of(asked.tokens), slots=replicas)
    open_all(replay)
    warm = float(asked.arrival[2000])
    replay.advance(warm)
    window = replay.advance(float(asked.arrival[-1]))
    for share in (0.5, 0.9, 0.99):
        assert window.quantile_seconds(share) == pytest.approx(np.quantile(planned.total, share), rel=0.03)
    assert window.within / window.answered == pytest.approx((planned.total <= 0.4).mean(), abs=0.003)
    assert window.busy_seconds / (asked.arrival[-1] - warm) / replicas == pytest.approx(planned.utilization, rel=0.02)
    assert window.compute_seconds / window.started == pytest.approx(planned.compute.mean(), rel=0.02)


def flat(rate: float, minutes: float) -> Trace:
    count = int(minutes * 60 / STEP_SECONDS)
    return Trace(name="flat", rate=np.full(count, rate), slowness=np.ones(count))


def test_every_request_is_answered_or_refused_once() -> None:
    played = service.play(flat(60.0, 5), seed=1)
    replay = Replay(requests=played.requests, server=service.server_of(played.requests.tokens), slots=2)
    open_all(replay)
    windows = [replay.advance(15.0 * i) for i in range(1, 30)]
    arrivals = sum(window.arrivals for window in windows)
    assert arrivals == len(played.requests.arrival)
    assert sum(window.answered + window.shed for window in windows) == arrivals
    assert sum(window.shed for window in windows) > 0  # 60 requests/s are more than two replicas carry
    assert sum(window.busy_seconds for window in windows) <= 2 * 15.0 * 29


def test_a_window_tells_nothing_of_later_requests() -> None:
    """Two traces that are equal for a minute measure the same in that minute."""
    played = service.play(flat(40.0, 3), seed=2)
    arrival = played.requests.arrival
    early = arrival < 60.0
    cut = Requests(*(values[early] for values in played.requests))
    windows = []
    for asked in (played.requests, cut):
        replay = Replay(requests=asked, server=service.server_of(played.requests.tokens), slots=3)
        open_all(replay)
        windows.append([replay.advance(at) for at in (15.0, 30.0, 45.0, 60.0)])
    for full, short in zip(*windows, strict=True):
        assert (full.answered, full.within, full.busy_seconds) == (short.answered, short.within, short.busy_seconds)
        assert (full.histogram == short.histogram).all()


def test_a_replica_serves_only_after_its_start_up_and_costs_from_its_order() -> None:
    class More:
        def decide(self, seen: Seen) -> int:
            ready.append((seen.now, seen.ready))
            return 4

    ready: list[tuple[float, int]] = []
    outcome = run(service.play(flat(20.0, 5), seed=3), More(), initial=2)
    assert [count for _, count in ready[:4]] == [2, 2, 4, 4]  # ordered at 15 s, ready at 45 s
    assert outcome.replica_hours == pytest.approx((2 * 15 + 4 * 285) / 3600)


def test_the_same_requests_for_every_policy_and_none_lost() -> None:
    played = service.play(step(np.random.default_rng(1)), seed=1)
    few, many = (run(played, Static(replicas=n), initial=n) for n in (3, 9))
    assert many.attainment > 0.999 > few.attainment
    assert many.replica_hours == pytest.approx(9 * played.trace.seconds / 3600)
