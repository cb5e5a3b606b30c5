"""Adaptation on a real API server: what pods measure moves the replicas, and status says why.

The pods' metrics are served by Prometheus' client on an address that the pods are given; nothing else stands in.
"""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Histogram, start_http_server

from cycle_wire.buckets import TOKEN_BUCKETS
from cycleops.service.haproxy import POD_PORT
from tests.api.operator_process import OperatorProcess, wait_until
from tests.api.service_world import ServiceWorld, started_world
from tests.api.test_operator_loop import settled

ADDRESS = "127.0.99.3"
HOLD = 30


class Traffic:
    """What sidecars expose while ``rate`` requests per second of ``length`` tokens come to each pod: quick misses."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._t = Histogram("cycle_request_seconds", "T.", ["outcome"], buckets=(0.01, 0.08, 0.2), registry=registry)
        self._lengths = Histogram("cycle_input_tokens", "Of computed texts.", buckets=TOKEN_BUCKETS, registry=registry)
        self.length = 16
        self._server, self._serving = start_http_server(POD_PORT, addr=ADDRESS, registry=registry)
        self.rate = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        """As many as the clock says, however late this thread is woken."""
        owed, before = 0.0, time.monotonic()
        while not self._stop.wait(0.2):
            now = time.monotonic()
            owed, before = owed + self.rate * (now - before), now
            while owed >= 1:
                self._t.labels("miss").observe(0.005)
                self._lengths.observe(self.length)
                owed -= 1

    def stop_serving(self) -> None:
        if self._serving.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._serving.join()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.stop_serving()


@pytest.fixture
def world(admin: httpx.Client, operator: OperatorProcess) -> Iterator[ServiceWorld]:
    yield from started_world(admin, operator)


@pytest.fixture
def traffic() -> Iterator[Traffic]:
    made = Traffic()
    yield made
    made.close()


def replicas(world: ServiceWorld) -> int:
    return int(world.child("deployments", "supersense-server").get("spec", {}).get("replicas", 0))


def said(world: ServiceWorld) -> dict[str, Any]:
    found: dict[str, Any] = world.status().get("adaptation", {})
    return found


def serving(world: ServiceWorld, **changes: Any) -> int:
    """A service whose pods are ready; how many server pods its plan has."""
    world.profiles()
    bounds = {"minimum": 1, "maximum": 6, "holdSeconds": HOLD}
    world.create(model=world.model, cache=None, replicas=bounds, **changes)
    world.expect("Feasible", "True", "PlanFound", seconds=60)
    planned = int(world.status()["plan"]["replicas"])
    world.run("balancer", 2, address="127.0.99.2")  # not to be read: the sidecars' own counts do
    world.run("server", planned, address=ADDRESS)
    world.expect("Ready", "True", "ReplicasReady")
    return planned


def is_quiet(log: Path, namespace: str) -> bool:
    """Whether two scrapes in a row write nothing. What the last pods' going leaves to say may come before."""
    before = settled(log, namespace)
    time.sleep(35)
    return settled(log, namespace) == before


def test_load_gets_pods_and_silence_keeps_them(world: ServiceWorld, traffic: Traffic, api_server: Any) -> None:
    """Up with the rate, down when it is gone for long enough, and nothing moves when nothing can be read."""
    planned = serving(world, traffic={"requestsPerSecond": 20, "basis": "Declared"})
    world.expect("ProfileCurrent", "Unknown", "NotMeasured")
    wait_until(lambda: said(world), seconds=60, what="a first measurement of no traffic")
    assert (said(world)["fewest"], said(world)["most"]) == (planned, 6)

    traffic.rate = 1000.0
    wait_until(lambda: replicas(world) > planned, seconds=60, what=lambda: f"more replicas, {said(world)}")
    grown = replicas(world)
    wait_until(lambda: said(world)["replicas"] == grown, seconds=5, what="status says so")
    assert said(world)["reason"] in ("RateGrows", "AtMaximum")
    assert "requests/s at most until a new replica could be ready" in said(world)["message"]
    assert said(world)["requestsPerSecond"] > 500
    assert world.condition("PlanCurrent")["status"] == "True"  # pods are added, nothing rolls
    assert world.condition("Ready")["status"] == "True"

    traffic.rate = 0.0
    wait_until(lambda: replicas(world) == planned, seconds=150, what=lambda: f"the plan's replicas, {said(world)}")
    wait_until(lambda: said(world)["reason"] == "FewerDo", seconds=5, what="status says so")
    log = api_server.logs / "audit.log"
    wait_until(lambda: is_quiet(log, world.namespace), seconds=150, what="two scrapes of nobody asking write nothing")

    traffic.rate = 1000.0
    wait_until(lambda: replicas(world) > planned, seconds=60, what="more replicas again")
    grown = replicas(world)
    traffic.stop_serving()
    wait_until(
        lambda: said(world)["reason"] == "MeasurementStale", seconds=120, what=lambda: f"stale, is {said(world)}"
    )
    assert replicas(world) >= grown
    assert "no news is not no traffic" in said(world)["message"]


def test_a_restarted_operator_keeps_the_number(world: ServiceWorld, traffic: Traffic) -> None:
    planned = serving(world, traffic={"requestsPerSecond": 20, "basis": "Declared"})
    traffic.rate = 1000.0
    wait_until(lambda: replicas(world) > planned, seconds=90, what="more replicas")
    grown = replicas(world)
    traffic.stop_serving()  # nothing can be measured after the restart
    world.operator.kill()
    world.operator.start()
    label = {"metadata": {"labels": {"users": "1"}}}
    world.client.patch(
        world.path("apis/cycleops.dev/v1alpha1", "cycleservices", "supersense"),
        headers={"Content-Type": "application/merge-patch+json"},
        json=label,
    ).raise_for_status()
    time.sleep(20)
    assert replicas(world) >= grown


def test_a_recommendation_says_what_it_would_do(world: ServiceWorld, traffic: Traffic) -> None:
    planned = serving(world, traffic={"requestsPerSecond": 20, "basis": "Declared"})
    world.change(planning={"mode": "Recommend"})
    traffic.rate = 1000.0
    wait_until(lambda: said(world).get("replicas", 0) > planned, seconds=90, what=lambda: f"advice, {said(world)}")
    assert said(world)["message"].startswith("planning.mode is Recommend, else: ")
    assert replicas(world) == planned
