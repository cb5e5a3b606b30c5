"""One interval between two scrapes: what counts, and when it is no measurement. Expositions by Prometheus' client."""

from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from cycle_server.server.metrics import ServerMetrics
from cycleops.service.haproxy import FRONTEND
from cycleops.service.histograms import Scrape, Window, parse
from cycleops.service.interval import Interval, interval_of

BUDGET = 80.0
BOUNDS = (0.04, 0.08, 0.16)


class Balancer:
    """What a balancer exposes of its arrivals and of T."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._t = Histogram("cycle_t_seconds", "T.", ["outcome"], buckets=BOUNDS, registry=self._registry)
        self._arrivals = Counter("haproxy_frontend_http_requests", "A.", ["proxy"], registry=self._registry)
        self._codes = Counter("haproxy_frontend_http_responses", "A.", ["proxy", "code"], registry=self._registry)
        self._arrivals.labels(FRONTEND)
        self._codes.labels(FRONTEND, "4xx")
        self._codes.labels(FRONTEND, "5xx")

    def answer(self, count: int, *, seconds: float = 0.02, outcome: str = "miss") -> None:
        self._arrivals.labels(FRONTEND).inc(count)
        for _ in range(count):
            self._t.labels(outcome).observe(seconds)

    def refuse(self, count: int, code: str) -> None:
        self._arrivals.labels(FRONTEND).inc(count)
        self._codes.labels(FRONTEND, code).inc(count)

    def scrape(self) -> Scrape:
        return parse(generate_latest(self._registry).decode())


class Server:
    """The server's own metrics, and T as its sidecar sees it."""

    def __init__(self) -> None:
        self.metrics = ServerMetrics(target_milliseconds=BUDGET)
        self._registry = CollectorRegistry()
        self._t = Histogram("cycle_request_seconds", "T.", ["outcome"], buckets=BOUNDS, registry=self._registry)

    def compute(self, count: int, *, seconds: float, length: int = 10, label: int = 3) -> None:
        for _ in range(count):
            self._t.labels("miss").observe(seconds)
            self.metrics.terms["compute"].labels("miss").observe(seconds)
        self.metrics.count_texts(lengths=[length] * count, labels=[label] * count)

    def scrape(self) -> Scrape:
        own = parse(generate_latest(self._registry).decode())
        return {**parse(generate_latest(self.metrics.registry).decode()), **own}


class World:
    def __init__(self) -> None:
        self.balancer, self.server, self.window = Balancer(), Server(), Window(span_seconds=60)
        self.look(now=0)

    def look(self, *, now: float, read: Iterable[str] = "bs", ready: Iterable[str] = "bs") -> Interval | None:
        pods = {"b": self.balancer.scrape(), "s": self.server.scrape()}
        happened = self.window.add({uid: pods[uid] for uid in read}, now=now)
        if happened is None:
            return None
        return interval_of(
            happened,
            balancers=[uid for uid in ready if uid.startswith("b")],
            servers=[uid for uid in ready if uid.startswith("s")],
            budget_milliseconds=BUDGET,
        )


@pytest.fixture
def world() -> World:
    return World()


def test_what_counts(world: World) -> None:
    world.balancer.answer(90)
    world.balancer.answer(40, outcome="hit", seconds=0.001)
    world.balancer.answer(10, seconds=0.1)
    world.balancer.refuse(7, "5xx")
    world.balancer.refuse(500, "4xx")  # wrong keys, bad bodies, too fast a tenant: no reason for more servers
    world.server.compute(60, seconds=0.01)
    world.server.compute(40, seconds=0.06, length=100, label=70)
    found = world.look(now=15)
    assert found is not None
    assert (found.arrivals, found.answered, found.hits, found.late, found.refused) == (147, 140, 40, 10, 7)
    assert (found.seconds, found.ended_at, found.ready_servers) == (15, 15, 1)
    assert found.compute_seconds == pytest.approx(0.03)
    assert found.computed == 100
    assert sum(found.lengths) == sum(found.labels) == 100
    assert (found.labels[3], found.labels[70 % 64]) == (60, 40)


def test_intervals_follow_each_other_and_nobody_asking_is_a_number(world: World) -> None:
    world.balancer.answer(30)
    assert (world.look(now=15) or pytest.fail()).arrivals == 30
    quiet = world.look(now=30)
    assert quiet is not None
    assert (quiet.arrivals, quiet.answered, quiet.compute_seconds, quiet.lengths) == (0, 0, None, ())


def test_an_answer_at_the_budget_is_in_time(world: World) -> None:
    world.balancer.answer(5, seconds=BUDGET / 1000)
    world.balancer.answer(3, seconds=BUDGET / 1000 + 1e-4)
    assert (world.look(now=15) or pytest.fail()).late == 3


def test_half_of_the_balancers_is_no_quiet_hour(world: World) -> None:
    world.balancer.answer(30)
    assert world.look(now=15, ready=("b", "b2", "s")) is None


def test_a_balancer_that_is_read_for_the_first_time_only_sets_its_base(world: World) -> None:
    world.look(now=15, read="s")
    world.balancer.answer(30)
    world.server.compute(4, seconds=0.01)
    assert (world.look(now=30) or pytest.fail()).arrivals == 4  # the sidecars' count
    world.balancer.answer(6)
    assert (world.look(now=45) or pytest.fail()).arrivals == 6


def test_where_no_balancer_can_be_read_the_sidecars_stand_in(world: World) -> None:
    world.server.compute(20, seconds=0.01)
    world.look(now=15, read="s")
    world.server.compute(20, seconds=0.1)
    found = world.look(now=30, read="s")
    assert found is not None
    assert (found.arrivals, found.late) == (20, 20)
    assert world.look(now=45, read="s", ready=("b", "s", "s2")) is None


def test_without_a_balancer_nobody_was_counted(world: World) -> None:
    assert world.look(now=15, ready="s") is None
