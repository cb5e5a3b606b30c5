"""CycleService on a real API server: what it waits for, what it makes, what it says."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Histogram, start_http_server

from cycleops.service.haproxy import POD_PORT
from tests.api.operator_process import OperatorProcess, wait_until
from tests.api.service_world import PLURALS, Body, ServiceWorld, started_world
from tests.api.test_operator_loop import settled, writes

CHILDREN = {
    "configmaps/supersense-serving",
    "configmaps/supersense-balancer",
    "services/supersense",
    "services/supersense-pods",
    "deployments/supersense-server",
    "deployments/supersense-balancer",
    "poddisruptionbudgets/supersense-balancer",
}
IMPOSSIBLE = {"latency": {"percentile": 99, "milliseconds": 1}}
PREFERRED = {
    "weight": 1,
    "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "heavy"}}},
}
_MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
def world(admin: httpx.Client, operator: OperatorProcess) -> Iterator[ServiceWorld]:
    yield from started_world(admin, operator)


class PodMetrics:
    """What sidecar and server of a pod expose, on an address of its own."""

    address = "127.0.99.1"

    def __init__(self) -> None:
        registry = CollectorRegistry()
        buckets = tuple(1e-4 * 1.25**i for i in range(56))
        self._request = Histogram("cycle_request_seconds", "T.", ["outcome"], buckets=buckets, registry=registry)
        self._queue = Histogram("cycle_queue_seconds", "Wait.", ["outcome"], buckets=buckets, registry=registry)
        self._server, self._thread = start_http_server(POD_PORT, addr=self.address, registry=registry)

    def answer(self, *, milliseconds: float, queue: float) -> None:
        self._request.labels("miss").observe(milliseconds / 1000)
        self._queue.labels("miss").observe(queue / 1000)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def pod_metrics() -> Iterator[PodMetrics]:
    served = PodMetrics()
    yield served
    served.close()


def planned(world: ServiceWorld, **changes: Any) -> None:
    """A service of a model that was measured, with its children."""
    world.profiles()
    world.create(model=world.model, **changes)
    world.expect("Feasible", "True", "PlanFound", seconds=60)
    wait_until(lambda: world.children() >= CHILDREN, what=lambda: f"all children, are {world.children()}")


def test_it_waits_for_its_job_and_says_what_to_do(world: ServiceWorld) -> None:
    world.create()
    world.expect("ModelReady", "False", "JobNotFound", words="CycleJob supersense does not exist in this namespace")
    world.expect("Feasible", "Unknown", "Waiting")
    world.expect("Ready", "False", "NoPlan", words="nothing is deployed")
    world.job()
    world.expect("ModelReady", "False", "JobNotFinished", words="waits for CycleJob supersense, which is at")
    assert world.children() == set()


def test_a_measured_model_is_planned_and_deployed_with_reasons(world: ServiceWorld) -> None:
    planned(world)
    status = world.status()
    plan = status["plan"]
    assert plan["variant"] in ("fp32", "int8")
    assert 0 < plan["predicted"]["latencyMs"] <= 80
    assert plan["costPerHour"] == pytest.approx(0.02 * plan["replicas"])
    assert plan["reasons"]
    assert status["rejected"]
    assert all(r["message"] for r in status["rejected"])
    assert status["frontier"]
    assert status["baselineAccuracy"] == 0.74
    assert status["url"] == f"http://supersense.{world.namespace}.svc"
    assert len(status["profiles"]) == 2
    assert world.child("deployments", "supersense-server")["spec"]["replicas"] == plan["replicas"]
    config = world.child("configmaps", "supersense-serving")["data"]
    assert json.loads(config["server.json"])["maximumBatchSize"] == plan["batchSize"]
    assert "leastconn" in world.child("configmaps", "supersense-balancer")["data"]["haproxy.cfg"]
    world.expect("Ready", "False", "ReplicasUnavailable")


def test_it_becomes_ready_with_its_pods(world: ServiceWorld) -> None:
    planned(world)
    replicas = world.status()["plan"]["replicas"]
    world.run("balancer", 2)
    world.run("server", replicas)
    world.expect("Ready", "True", "ReplicasReady", words=f"{replicas} of {replicas} server pods are ready")
    world.expect("PlanCurrent", "True", "PlanApplied")
    world.expect("Progressing", "False", "AsExpected")
    assert world.status()["readyReplicas"] == replicas


def test_an_impossible_budget_says_what_would_do_and_its_price(world: ServiceWorld) -> None:
    world.profiles()
    world.create(model=world.model, budget=IMPOSSIBLE)
    world.expect("Feasible", "False", "LatencyInfeasible", seconds=60)
    nearest = world.status()["nearestFeasible"]
    latency = next(n for n in nearest if n["dimension"] == "latency")
    assert latency["value"] > 1
    assert latency["costPerHour"] > 0
    assert latency["message"] in world.condition("Feasible")["message"]
    assert "plan" not in world.status()
    assert world.children() == set()


def test_the_old_plan_serves_when_the_budget_becomes_impossible(world: ServiceWorld) -> None:
    planned(world)
    replicas, plan = world.status()["plan"]["replicas"], world.status()["plan"]
    world.run("balancer", 2)
    world.run("server", replicas)
    world.expect("Ready", "True", "ReplicasReady")
    before = world.child("deployments", "supersense-server")["spec"]
    world.change(budget=IMPOSSIBLE)
    world.expect("Feasible", "False", "LatencyInfeasible", seconds=60)
    world.expect("Ready", "True", "OldPlanServes")
    assert world.status()["plan"] == plan
    # Nothing rolls: the servers go on shedding by the budget that they were planned for.
    assert world.child("deployments", "supersense-server")["spec"] == before
    # It is still repaired.
    world.client.delete(world.path(PLURALS["services"], "services", "supersense")).raise_for_status()
    wait_until(lambda: world.child("services", "supersense"), seconds=5, what="the Service is back")


def test_an_accuracy_floor_that_no_variant_reaches(world: ServiceWorld) -> None:
    world.profiles()
    floor = {"metric": "f1Macro", "minimum": "0.99", "maximumDrop": None, "baseline": None}
    world.create(model=world.model, budget={"accuracy": floor})
    world.expect("Feasible", "False", "AccuracyInfeasible", words="0.74", seconds=60)
    assert {r["reason"] for r in world.status()["rejected"]} == {"BelowAccuracyFloor"}


def test_a_recommendation_deploys_nothing(world: ServiceWorld) -> None:
    world.profiles()
    world.create(model=world.model, planning={"mode": "Recommend"})
    world.expect("PlanCurrent", "False", "Recommended", seconds=60)
    assert world.status()["plan"]["variant"]
    assert world.children() == set()
    world.change(planning={"mode": "Automatic"})
    wait_until(lambda: world.children() >= CHILDREN, what=lambda: f"all children, are {world.children()}")


def test_profiles_that_come_later_are_noticed(world: ServiceWorld) -> None:
    world.create(model=world.model)
    world.expect("ModelReady", "False", "NoProfiles", words="measured nowhere")
    world.profiles()
    world.expect("ModelReady", "True", "ModelPinned", words="fp32, int8 measured on cpu-small")
    world.expect("Feasible", "True", "PlanFound", seconds=60)


def test_a_claim_that_is_missing_is_named(world: ServiceWorld) -> None:
    planned(world)
    world.client.delete(world.path("api/v1", "persistentvolumeclaims", "models")).raise_for_status()
    path = world.path("api/v1", "persistentvolumeclaims", "models")
    world.client.patch(path, headers=_MERGE, content='{"metadata":{"finalizers":null}}')
    world.expect("Stalled", "True", "ClaimNotFound", words="PersistentVolumeClaim models", seconds=30)


def test_what_a_pod_says_is_in_the_condition(world: ServiceWorld) -> None:
    planned(world)
    pod = wait_until(lambda: world.pods("server"), seconds=30, what="a server pod")[0]
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    container = {"name": "server", "image": "cycleops/server:test", "imageID": "", "ready": False, "restartCount": 0}
    world.set_pod(pod, phase="Pending", containerStatuses=[{**container, "state": waiting}])
    world.expect("Stalled", "True", "ImagePullFailed", words="no such image", seconds=30)


def test_what_the_spec_no_longer_wants_goes_from_the_children(world: ServiceWorld) -> None:
    added = {
        "env": [{"name": "LEVEL", "value": "1"}],
        "annotations": {"example.org/team": "senses"},
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [PREFERRED]}},
    }
    planned(world, podTemplate=added)

    def pods() -> Body:
        template: Body = world.child("deployments", "supersense-server")["spec"]["template"]
        return template

    def names() -> list[str]:
        return [variable["name"] for variable in pods()["spec"]["containers"][0]["env"]]

    assert "LEVEL" in names()
    image = "example.org/sidecar:1"
    injected = {"spec": {"template": {"spec": {"initContainers": [{"name": "others", "image": image}]}}}}
    path = world.path(PLURALS["deployments"], "deployments", "supersense-server")
    headers = {"Content-Type": "application/strategic-merge-patch+json"}
    world.client.patch(path, headers=headers, content=json.dumps(injected)).raise_for_status()
    world.change(podTemplate=None)
    wait_until(lambda: "LEVEL" not in names(), seconds=10, what=lambda: f"no LEVEL in {names()}")
    assert "example.org/team" not in pods()["metadata"]["annotations"]
    assert "affinity" not in pods()["spec"]
    assert [one["image"] for one in pods()["spec"]["initContainers"]] == [image], "what others added is theirs"


def test_someone_elses_name_is_never_taken_over(world: ServiceWorld) -> None:
    body = {"metadata": {"name": "supersense"}, "spec": {"ports": [{"port": 80}]}}
    world.client.post(world.path("api/v1", "services"), json=body).raise_for_status()
    world.profiles()
    world.create(model=world.model)
    world.expect("Stalled", "True", "NameTaken", words="Service supersense exists already", seconds=60)
    assert "ownerReferences" not in world.child("services", "supersense")["metadata"]


def test_a_second_pass_and_an_idle_service_write_nothing(world: ServiceWorld, api_server: Any) -> None:
    template = {
        "tolerations": [{"key": "spot", "operator": "Exists", "tolerationSeconds": 0, "effect": "NoExecute"}],
        "env": [{"name": "LEVEL", "value": "1"}],
        "volumes": [{"name": "extra", "configMap": {"name": "extra", "optional": False}}],
        "volumeMounts": [{"name": "extra", "mountPath": "/extra", "readOnly": False}],
    }
    planned(world, podTemplate=template)
    log = api_server.logs / "audit.log"
    before = settled(log, world.namespace)
    passes = world.operator.metric("cycleops_reconcile_total")
    path = world.path("apis/cycleops.dev/v1alpha1", "cycleservices", "supersense")
    for number in range(5):
        label = json.dumps({"metadata": {"labels": {"users": str(number)}}})
        world.client.patch(path, headers=_MERGE, content=label).raise_for_status()
        wait_until(lambda n=number: world.operator.metric("cycleops_reconcile_total") > passes + n)
    assert settled(log, world.namespace) == before, writes(log, namespace=world.namespace)[len(before) :]


def test_the_real_t_of_the_pods_is_measured_and_judged(world: ServiceWorld, pod_metrics: PodMetrics) -> None:
    planned(world)
    replicas = world.status()["plan"]["replicas"]
    world.run("balancer", 2, address="127.0.99.2")  # not to be read: the sidecars' own counts do
    world.run("server", replicas, address=pod_metrics.address)
    world.expect("Ready", "True", "ReplicasReady")
    world.expect("BudgetMet", "Unknown", "NotMeasured", words="no request was measured yet")
    began = time.monotonic()
    while time.monotonic() - began < 20:  # more than one round of reading
        pod_metrics.answer(milliseconds=120, queue=90)
        time.sleep(0.1)
    world.expect("BudgetMet", "False", "BudgetBroken", words="queue is the furthest above", seconds=40)
    measured = world.status()["measured"]
    assert measured["requests"] >= 20
    assert 100 <= measured["p50Ms"] <= 140
    assert 80 <= measured["queueMs"] <= 110
    assert measured["cacheHitRatio"] == 0
