"""The balancer's pods before real server pods: found by the cluster's DNS, and no request is lost when either goes.

The servers are HAProxy too, with a pod's readiness and its name for an answer: quick to start, and real pods.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import yaml

from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.controller.reconcile import Owner
from cycleops.service.balancer import balancer_children
from cycleops.service.server import server_children
from tests.api.kubeapi import connect
from tests.cluster.binaries import binary
from tests.cluster.clusters import Cluster
from tests.cluster.kubectl import Kubectl, Object
from tests.unit.service.make import deployed, hardware

NAMESPACE = "balancer"
EXAMPLE = Path(__file__).parents[2] / "examples" / "cycleservice.yaml"
OWNER = Owner(namespace=NAMESPACE, name="supersense", uid="none", generation=1, status={})
SERVER = """
global
    log stdout format raw local0 notice
    hard-stop-after 20s
    grace 3s
defaults
    mode http
    timeout client 30s
    timeout server 30s
    timeout connect 1s
frontend pod
    bind :8081
    http-request return status 503 if { path /v2/health/ready } { stopping }
    http-request return status 200 if { path /v2/health/ready }
    http-request return status 200 content-type text/plain lf-string "%[hostname]"
"""


def free_of_owner(body: Object) -> Object:
    """The garbage collector would remove children of an owner that isn't there."""
    del body["metadata"]["ownerReferences"]
    return body


def spec() -> CycleServiceSpec:
    return CycleServiceSpec.model_validate(yaml.safe_load(EXAMPLE.read_text())["spec"])


@dataclass
class Load:
    """Requests through the API server's proxy of the Service, ``clients`` at a time, and what came back."""

    client: httpx.Client
    clients: int = 4
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self) -> tuple[int, str]:
        answer = self.client.get(f"/api/v1/namespaces/{NAMESPACE}/services/supersense:http/proxy/v2/models/m")
        return answer.status_code, answer.text if answer.is_success else ""

    def run(self) -> None:
        while not self._stop.is_set():
            answer = self.ask()
            with self._lock:
                self.answers[answer] += 1
            time.sleep(0.02)

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self.run) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def service(cluster: Cluster) -> Iterator[Kubectl]:
    image = cluster.load_images("balancer")["balancer"]
    kubectl = Kubectl(cluster.kubeconfig, str(binary("kubectl")))
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    within = kubectl.within(NAMESPACE)
    balancers = balancer_children(
        owner=OWNER, spec=spec(), deployed=deployed(), image=image, cluster_domain="cluster.local", secrets={}
    )
    within.apply([free_of_owner(body) for body in [*balancers, *servers(image)]])
    for name in ("supersense-server", "supersense-balancer"):
        within.run("rollout", "status", f"deployment/{name}", "--timeout=120s", timeout_seconds=130)
    yield within
    kubectl.delete("namespace", NAMESPACE, "--wait=false")


def servers(image: str) -> list[Object]:
    """The operator's own server children, with another program in the pods."""
    bodies = server_children(owner=OWNER, spec=spec(), deployed=deployed(), hardware=hardware(), image=image)
    config, headless, deployment = bodies[:3]
    config["data"] = {"haproxy.cfg": SERVER}
    pod = deployment["spec"]["template"]["spec"]
    cache = next(c for c in pod["containers"] if c["name"] == "cache")
    cache["command"] = ["haproxy", "-db", "-f", "/etc/cycleops/haproxy.cfg"]
    cache["resources"] = {"requests": {"cpu": "20m", "memory": "32Mi"}}
    pod["containers"] = [cache]
    pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] != "model"]
    return [config, headless, deployment]


@pytest.fixture
def client(cluster: Cluster) -> Iterator[httpx.Client]:
    with connect(cluster.kubeconfig) as found:
        yield found


def until_both_answer(client: httpx.Client) -> None:
    """Both balancers know both pods."""
    deadline = time.monotonic() + 30
    while True:
        seen = Counter(Load(client).ask() for _ in range(20))
        if len(seen) == 2 and {status for status, _ in seen} == {200}:
            return
        assert time.monotonic() < deadline, seen
        time.sleep(0.5)


def replace_pods(kubectl: Kubectl, deployment: str) -> None:
    kubectl.run("rollout", "restart", f"deployment/{deployment}")
    kubectl.run("rollout", "status", f"deployment/{deployment}", "--timeout=120s", timeout_seconds=130)


def test_both_pods_answer_and_replacing_them_loses_nothing(service: Kubectl, client: httpx.Client) -> None:
    until_both_answer(client)
    with Load(client) as load:
        replace_pods(service, "supersense-server")
        time.sleep(5)
    print(f"{load.answers.total()} requests: {dict(load.answers)}")
    assert {status for status, _ in load.answers} == {200}, load.answers
    assert len(load.answers) == 4  # two old pods and two new ones


def test_killing_a_server_pod_loses_nothing(service: Kubectl, client: httpx.Client) -> None:
    """Without a grace period: its connections break, and what was in it is asked of the other pod."""
    until_both_answer(client)
    with Load(client) as load:
        time.sleep(1)
        _, name = load.ask()  # a pod answers with its name
        service.run("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
        deadline = time.monotonic() + 60
        while len(load.answers) < 3 and time.monotonic() < deadline:  # until the new pod answers
            time.sleep(0.5)
    print(f"{load.answers.total()} requests: {dict(load.answers)}")
    assert {status for status, _ in load.answers} == {200}, load.answers
    assert len(load.answers) == 3


def test_replacing_the_balancers_loses_nothing(service: Kubectl, client: httpx.Client) -> None:
    until_both_answer(client)
    with Load(client) as load:
        replace_pods(service, "supersense-balancer")
        time.sleep(5)
    print(f"{load.answers.total()} requests: {dict(load.answers)}")
    assert {status for status, _ in load.answers} == {200}, load.answers


def test_no_pod_is_a_503_that_says_when_to_come_back(service: Kubectl, client: httpx.Client) -> None:
    service.run("scale", "deployment/supersense-server", "--replicas=0")
    deadline = time.monotonic() + 60
    path = f"/api/v1/namespaces/{NAMESPACE}/services/supersense:http/proxy/v2/models/m"
    while (answer := client.get(path)).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "1")
    assert answer.json() == {"error": "no replica can take the request now"}
    service.run("scale", "deployment/supersense-server", "--replicas=2")
    service.run("rollout", "status", "deployment/supersense-server", "--timeout=120s", timeout_seconds=130)
    until_both_answer(client)
