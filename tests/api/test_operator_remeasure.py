"""Stale profiles are measured anew, on a real API server: the Job, its reports, and the plan that comes of them."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cycle_wire.profile import Profile
from cycle_wire.reports import ProfileReport
from cycle_wire.serving import ProfilingConfig
from tests.api.operator_process import OperatorProcess, wait_until
from tests.api.service_world import OURS, ServiceWorld, started_world
from tests.api.test_operator_adaptation import Traffic, said, serving
from tests.unit.service.make import profile

JOB = "supersense-measure-1-cpu-small"


@pytest.fixture
def world(admin: httpx.Client, operator: OperatorProcess) -> Iterator[ServiceWorld]:
    yield from started_world(admin, operator)


@pytest.fixture
def traffic() -> Iterator[Traffic]:
    made = Traffic()
    yield made
    made.close()


def profiles(world: ServiceWorld) -> set[str]:
    items = world.client.get(world.path(OURS, "cycleprofiles")).raise_for_status().json()["items"]
    return {item["metadata"]["name"] for item in items}


def job(world: ServiceWorld) -> dict[str, Any] | None:
    answer = world.client.get(world.path("apis/batch/v1", "jobs", JOB))
    return None if answer.status_code == 404 else answer.raise_for_status().json()


def events(world: ServiceWorld) -> list[str]:
    """Reasons, in their order."""
    items = world.client.get(world.path("api/v1", "events")).raise_for_status().json()["items"]
    of_service = [item for item in items if item["involvedObject"]["kind"] == "CycleService"]
    return [item["reason"] for item in sorted(of_service, key=lambda item: item["firstTimestamp"])]


def config(world: ServiceWorld) -> ProfilingConfig:
    return ProfilingConfig.model_validate_json(world.child("configmaps", JOB)["data"]["config.json"])


def measured(variant: str, of: ProfilingConfig, **changes: Any) -> ProfileReport:
    """What the profiler reports when it was asked so."""
    made = profile(variant, lengths=of.sequence_lengths, image=of.image, measured_at="2027-01-01T00:00:00Z", **changes)
    return ProfileReport(profile=Profile.model_validate(made.spec.model_dump(include=set(Profile.model_fields))))


def shifted(world: ServiceWorld, traffic: Traffic, **remeasure: Any) -> None:
    """Inputs were of 16 tokens and are of 90, and status says so."""
    serving(world, traffic={"requestsPerSecond": 300, "basis": "Maximum"}, remeasure={"afterSeconds": 0, **remeasure})
    traffic.rate = 150.0
    wait_until(lambda: said(world), seconds=60, what="a first measurement")
    # More than a comparison's worth of each: the first is what later ones are held against.
    wait_until(lambda: _counted(world), seconds=90, what=lambda: f"a reference of lengths, {said(world)}")
    traffic.length = 90
    world.expect("ProfileCurrent", "False", "ProfileStale", words="input lengths have shifted", seconds=120)


def _counted(world: ServiceWorld) -> bool:
    """Whether so many requests were measured that lengths have a reference."""
    found: dict[str, Any] = world.status().get("measured", {})
    return bool(found.get("requestsPerSecond", 0) * found.get("windowSeconds", 0) > 5000)


def test_longer_inputs_are_measured_anew_and_planned_for(world: ServiceWorld, traffic: Traffic) -> None:
    shifted(world, traffic)
    world.expect("Remeasuring", "True", "MeasuringAnew", words=f"by Job {JOB}")
    old, asked = profiles(world), config(world)
    assert {variant.variant.name for variant in asked.variants} == {"fp32", "int8"}
    assert set(asked.sequence_lengths) > {16, 32, 64}
    assert 64 < max(asked.sequence_lengths) <= 96

    # A pod that serves has nothing to report, whatever its token.
    answer = world.report(world.pods("server")[0], measured("int8", asked))
    assert (answer.status_code, "is not of CycleService" in answer.text) == (403, True)
    [pod] = wait_until(lambda: world.pods("profile"), seconds=30, what="the measuring pod")
    assert world.report(pod, measured("fp32", asked, compute_ms=12.0)).status_code == 200
    assert len(profiles(world) - old) == 1
    assert set(world.status()["profiles"]) == old  # half a run is not planned from
    assert world.report(pod, measured("int8", asked, compute_ms=4.0)).status_code == 200
    world.end(pod)

    world.expect("Remeasuring", "False", "MeasuredAnew", words="int8 on cpu-small", seconds=60)
    new = profiles(world) - old
    wait_until(lambda: set(world.status()["profiles"]) == new, what=lambda: f"{new}, is {world.status()['profiles']}")
    assert profiles(world) > old  # nothing is lost
    wait_until(lambda: world.condition("ProfileCurrent")["status"] != "False", what="profiles that are not stale")
    wait_until(
        lambda: "Planned for the inputs that come" in json.dumps(world.status()["plan"]["reasons"]),
        seconds=30,
        what=lambda: f"a plan for longer inputs, {world.status()['plan']}",
    )
    assert world.status()["plan"]["profile"] in new
    assert world.condition("Feasible")["status"] == "True"
    wait_until(lambda: job(world) is None, what="the Job goes")
    assert world.status()["remeasurement"]["run"] == 1
    assert events(world) == ["MeasuringAnew", "MeasuredAnew"]


def test_a_service_that_measures_nothing_anew_says_what_to_do(world: ServiceWorld, traffic: Traffic) -> None:
    shifted(world, traffic, enabled=False)
    world.expect("Remeasuring", "False", "RemeasureOff", words="run a CycleJob")
    assert job(world) is None
    assert "remeasurement" not in world.status()
    # Turned on, it begins; its Job is the service's, and goes with it.
    world.change(remeasure={"enabled": True})
    world.expect("Remeasuring", "True", "MeasuringAnew", seconds=30)
    made = job(world)
    assert made is not None
    [owner] = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("CycleService", world.service()["metadata"]["uid"])
