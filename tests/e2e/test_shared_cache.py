"""The managed shared cache, gRPC and pods of several processes on a real cluster: pods share answers, and nobody is
refused when the cache, a process or a pod dies.

All requests are sent from inside a server pod.
"""

import base64
import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from demo.install import OPERATOR_NAMESPACE
from tests.cluster.kubectl import Kubectl, KubectlError, Object, has_condition
from tests.e2e.manifests import PAIR, service_for
from tests.e2e.scripts import ASK, CALL, KILL, LOAD

NAME = "shared"
INFER = f"/v2/models/{NAME}/infer"


@dataclass(frozen=True)
class Service:
    kubectl: Kubectl

    def pods(self, role: str) -> list[Object]:
        """Those that are ready and stay."""
        found = self.kubectl.list("pods", f"cycleops.dev/service={NAME},cycleops.dev/role={role}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"] and is_ready(pod)]

    def command(self, script: str, *arguments: str) -> list[str]:
        pod = self.pods("server")[0]["metadata"]["name"]
        return ["exec", pod, "-c", "cache", "--", "python3", "-c", script, *arguments]

    def ask(self, pod: Object, *texts: str) -> list[list[Any]]:
        """Status, outcome and age of each, straight from a pod."""
        url = f"http://{pod['status']['podIP']}:8081{INFER}"
        found: list[list[Any]] = json.loads(self.kubectl.run(*self.command(ASK, url, *texts)))
        return found

    def metric(self, pod: Object, name: str, *, page: str = "/metrics") -> float:
        """Of the sidecar; of the server with its page."""
        url = f"http://127.0.0.1:8081{page}"
        script = f"import urllib.request; print(urllib.request.urlopen('{url}').read().decode())"
        name_of_pod = pod["metadata"]["name"]
        text = self.kubectl.run("exec", name_of_pod, "-c", "cache", "--", "python3", "-c", script)
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    @property
    def host(self) -> str:
        return f"{NAME}.{self.kubectl.namespace}.svc"


def is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


@pytest.fixture(scope="module")
def shared(workspace: Kubectl, trained: Object) -> Iterator[Service]:
    """Two pods of a pinned plan with a managed cache; 40 steps of training reach no floor, so it asks for none."""
    service = service_for(NAME, trained["metadata"]["name"])
    service["spec"] |= {
        "cache": {"l1": {"policy": "WTinyLFU"}, "l2": {"managed": True, "size": "64Mi"}},
        "grpc": {},
        "hardware": [PAIR],
        "planning": {
            "mode": "Pinned",
            "pinned": {"variant": "fp32", "hardware": PAIR, "batchSize": 1, "replicas": 2},
        },
    }
    service["spec"]["budget"] |= {
        "latency": {"milliseconds": "2000"}, "accuracy": {"metric": "f1Macro", "minimum": "0.001"},
    }  # fmt: skip
    workspace.apply(service)
    workspace.wait_for("cycleservice", NAME, has_condition("Ready", "True"), timeout_seconds=240)
    found = Service(workspace)
    wait_until(lambda: len(found.pods("server")) == 2 and len(found.pods("cache")) == 1)
    yield found
    workspace.delete("cycleservice", NAME)


def wait_until(holds: Any, *, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.5)


def becomes_a_hit(service: Service, text: str) -> list[Any]:
    """What the second pod says to a text that only the first was asked."""
    one, other = service.pods("server")
    assert service.ask(one, text)[0][:2] == [200, "miss"]
    time.sleep(1)  # stores happen behind the answer
    return service.ask(other, text)[0]


def test_an_answer_of_one_pod_is_a_hit_in_the_other(shared: Service) -> None:
    status, outcome, age = becomes_a_hit(shared, "a small domesticated carnivore")
    assert (status, outcome) == (200, "hit")
    assert 1 <= int(age) < 30
    other = shared.pods("server")[1]
    assert shared.metric(other, 'cycle_shared_cache_lookups_total{result="hit"}') == 1
    assert shared.metric(other, "cycle_shared_cache_up") == 1


def test_a_question_over_http_is_a_hit_over_grpc(shared: Service) -> None:
    """Through Service and balancer, by whichever pod."""
    text = "an instrument that tells the time"
    url = f"http://{shared.host}{INFER}"
    assert json.loads(shared.kubectl.run(*shared.command(ASK, url, text)))[0][:2] == [200, "miss"]
    time.sleep(1)
    label, metadata = json.loads(shared.kubectl.run(*shared.command(CALL, f"{shared.host}:9000", NAME, text)))
    assert label
    assert metadata["x-cycle-cache"] == "hit"
    assert "total;dur=" in metadata["server-timing"]
    ports = {port["name"]: port for port in shared.kubectl.get("service", NAME)["spec"]["ports"]}  # type: ignore[index]
    assert ports["grpc"]["appProtocol"] == "kubernetes.io/h2c"


def test_a_cache_that_is_killed_is_bypassed_without_an_error_and_found_again(shared: Service) -> None:
    command = shared.command(LOAD, f"http://{shared.host}{INFER}", f"{shared.host}:9000", "25", NAME)
    with subprocess.Popen(shared.kubectl.command(*command), stdout=subprocess.PIPE, text=True) as load:
        time.sleep(5)
        killed = shared.pods("cache")[0]["metadata"]["name"]
        shared.kubectl.run("delete", "pod", killed, "--grace-period=0", "--force", "--wait=false")
        output, _ = load.communicate(timeout=120)
    counts = Counter(json.loads(output))
    print(counts)
    assert set(counts) == {"HTTP 200", "gRPC OK"}, counts
    assert counts.total() > 100
    servers = shared.pods("server")
    failed = [shared.metric(pod, 'cycle_shared_cache_lookups_total{result="error"}') for pod in servers]
    assert sum(failed) >= 1
    wait_until(lambda: len(shared.pods("cache")) == 1)
    number = 0

    def shares_again() -> bool:
        nonlocal number
        number += 1
        return becomes_a_hit(shared, f"question {number} after the cache came back")[1] == "hit"

    wait_until(shares_again)
    assert [shared.metric(pod, "cycle_shared_cache_up") for pod in servers] == [1, 1]


def test_a_killed_process_costs_no_request_and_is_replaced(shared: Service) -> None:
    pod, server = shared.pods("server")[0], "/metrics/server"
    assert shared.metric(pod, "cycle_compute_processes", page=server) == 2
    command = shared.command(LOAD, f"http://{shared.host}{INFER}", f"{shared.host}:9000", "12", NAME)
    with subprocess.Popen(shared.kubectl.command(*command), stdout=subprocess.PIPE, text=True) as load:
        time.sleep(4)
        name = pod["metadata"]["name"]
        workers = json.loads(shared.kubectl.run("exec", name, "-c", "server", "--", "python3", "-c", KILL))
        output, _ = load.communicate(timeout=120)
    counts = Counter(json.loads(output))
    print(counts, workers)
    assert set(counts) == {"HTTP 200", "gRPC OK"}, counts
    assert len(workers) == 2
    wait_until(lambda: shared.metric(pod, "cycle_compute_processes", page=server) == 2)
    assert shared.metric(pod, "cycle_compute_processes_lost_total", page=server) == 1
    restarts = shared.kubectl.get("pod", name)["status"]["containerStatuses"]  # type: ignore[index]
    assert [status["restartCount"] for status in restarts] == [0, 0]


def test_replacing_the_pods_costs_no_call(shared: Service) -> None:
    """New server pods and new balancers, under load over both protocols."""
    command = shared.command(LOAD, f"http://{shared.host}{INFER}", f"{shared.host}:9000", "240", NAME)
    # The load must not run in a pod that is replaced.
    pod = shared.pods("server")[0]["metadata"]["name"]
    image = shared.kubectl.get("pod", pod)["spec"]["containers"][0]["image"]  # type: ignore[index]
    shared.kubectl.apply(load_pod(image, command[command.index("--") + 1 :]))
    wait_until(lambda: shared.kubectl.get("pod", "load")["status"]["phase"] == "Running")  # type: ignore[index]
    time.sleep(3)
    for name in (f"{NAME}-server", f"{NAME}-balancer"):
        shared.kubectl.run("rollout", "restart", f"deployment/{name}")
        shared.kubectl.run("rollout", "status", f"deployment/{name}", "--timeout=120s", timeout_seconds=130)
    shared.kubectl.run("exec", "load", "--", "python3", "-c", "import os; os.kill(1, 15)")
    ended = ("Succeeded", "Failed")
    wait_until(lambda: shared.kubectl.get("pod", "load")["status"]["phase"] in ended, seconds=240)  # type: ignore[index]
    counts = Counter(json.loads(shared.kubectl.logs("load")))
    shared.kubectl.delete("pod", "load", "--wait=false")
    print(counts)
    assert set(counts) == {"HTTP 200", "gRPC OK"}, counts
    assert counts.total() > 200


def load_pod(image: str, command: list[str]) -> Object:
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    profile = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {"name": "load", "image": image, "command": command, "securityContext": security}
    spec = {"restartPolicy": "Never", "securityContext": profile, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "load"}, "spec": spec}


def test_its_pod_meets_restricted_and_its_password_is_in_its_secret_only(shared: Service) -> None:
    kubectl = shared.kubectl
    labels = kubectl.get("namespace", kubectl.namespace)["metadata"]["labels"]  # type: ignore[index]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    data = kubectl.get("secret", f"{NAME}-cache")["data"]  # type: ignore[index]
    url = base64.b64decode(data["url"]).decode()
    password = url.partition(":")[2].partition(":")[2].partition("@")[0]
    assert len(password) >= 32
    assert password in base64.b64decode(data["auth.conf"]).decode()
    texts = [kubectl.within(OPERATOR_NAMESPACE).logs("deployment/cycleops")]
    texts += [logs(kubectl, pod) for role in ("server", "balancer", "cache") for pod in shared.pods(role)]
    kinds = "pods,deployments,configmaps,services,cycleservices,events"
    texts.append(kubectl.run("get", kinds, "-o", "json"))
    texts += [kubectl.run("exec", pod["metadata"]["name"], "--", "cat", "/proc/1/cmdline", "/proc/1/environ")
              for pod in shared.pods("cache")]  # fmt: skip
    assert all(texts)
    assert not [text for text in texts if password in text]


def logs(kubectl: Kubectl, pod: Object) -> str:
    """Of all its containers; never empty, so that it can't be missing unseen."""
    name = pod["metadata"]["name"]
    try:
        return f"{name}: {kubectl.logs(name, '--all-containers', '--prefix')}"
    except KubectlError as error:
        raise AssertionError(f"no logs of {name}") from error
