"""Adaptation on a real cluster: load gets pods, its end takes them away, and blindness takes nothing away."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.kubectl import Kubectl, Object, WaitTimeout, has_condition
from tests.e2e.manifests import service_for

NAME = "elastic"
# Asks for other texts all the time, from several processes, so that no cache answers and the server computes. The texts
# are long: then computing takes most of a request's time, and few clients ask for all that one pod can do.
LOAD = """
import json, os, sys, time, urllib.request
url, until, worker = sys.argv[1], time.time() + float(sys.argv[2]), 0
for worker in range(1, int(sys.argv[3])):
    if os.fork() == 0:
        break
sent = 0
while time.time() < until:
    sent += 1
    text = f"worker {worker} wants sentence number {sent} of an endless story: " + "the clock on the wall is slow " * 7
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=10).read()
    except OSError:
        time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def elastic(workspace: Kubectl, trained: Object) -> Iterator[Object]:
    """Declared for one request per second, with room for two pods; pods go when fewer sufficed for 30 s."""
    service = service_for(NAME, trained["metadata"]["name"])
    service["spec"] |= {
        "budget": {
            "latency": {"percentile": 95, "milliseconds": 150},
            "accuracy": {"metric": "f1Macro", "minimum": "0.001"},
        },
        "traffic": {"requestsPerSecond": 1, "basis": "Declared", "inputTokens": {"p50": 60, "p99": 64}},
        "replicas": {"minimum": 1, "maximum": 2, "holdSeconds": 30},
        "cache": None,
    }
    workspace.apply(service)
    yield workspace.wait_for("cycleservice", NAME, has_condition("Ready", "True"), timeout_seconds=180)
    workspace.delete("cycleservice", NAME)


def adaptation(item: Object) -> dict[str, Any]:
    found: dict[str, Any] = item["status"].get("adaptation", {})
    return found


def asked(replicas: int) -> Any:
    return lambda item: adaptation(item).get("replicas") == replicas


def is_stale(item: Object) -> bool:
    return adaptation(item).get("reason") == "MeasurementStale"


def send(workspace: Kubectl, *, seconds: int, workers: int) -> None:
    """In the background, from the service's own server pod."""
    pod = workspace.list("pods", f"cycleops.dev/service={NAME},cycleops.dev/role=server")[0]["metadata"]["name"]
    url = f"http://{NAME}.{workspace.namespace}.svc/v2/models/{NAME}/infer"
    inside = 'python3 -c "$0" "$@" >/dev/null 2>&1 &'
    workspace.run("exec", pod, "-c", "cache", "--", "sh", "-c", inside, LOAD, url, str(seconds), str(workers))


def load_until_it_grows(workspace: Kubectl) -> Object:
    """A few clients more each time, whatever the machine can do.

    Most answers then still are in time. After a window in which most are late a second pod would be kept until the
    account of them is even, and once nobody asks it never is.
    """
    for _ in range(8):
        send(workspace, seconds=300, workers=2)
        try:
            return workspace.wait_for("cycleservice", NAME, asked(2), timeout_seconds=45)
        except WaitTimeout:
            continue
    raise AssertionError("16 clients that ask all the time get no second pod")


def servers(workspace: Kubectl) -> int:
    deployment = workspace.get("deployment", f"{NAME}-server")
    assert deployment is not None
    return int(deployment["spec"]["replicas"])


def test_load_gets_pods_blindness_keeps_them_and_silence_takes_them(workspace: Kubectl, elastic: Object) -> None:
    assert elastic["status"]["plan"]["replicas"] == 1
    grown = load_until_it_grows(workspace)
    assert adaptation(grown)["reason"] in ("RateGrows", "AtMaximum")
    assert "requests/s at most until a new replica could be ready" in adaptation(grown)["message"]
    assert adaptation(grown)["requestsPerSecond"] > 10
    assert servers(workspace) == 2

    # Every pod goes, the clients with them, and no node takes new ones: nobody can be read.
    node = workspace.list("nodes")[0]["metadata"]["name"]
    workspace.run("cordon", node)
    try:
        selector = f"cycleops.dev/service={NAME}"
        workspace.run("delete", "pods", "-l", selector, "--grace-period=1", "--wait=false")
        blind = workspace.wait_for("cycleservice", NAME, is_stale, timeout_seconds=120)
        assert adaptation(blind)["replicas"] == 2
        assert "no news is not no traffic" in adaptation(blind)["message"]
        assert servers(workspace) == 2
    finally:
        workspace.run("uncordon", node)

    shrunk = workspace.wait_for("cycleservice", NAME, asked(1), timeout_seconds=240)
    assert adaptation(shrunk)["reason"] == "FewerDo"
    assert servers(workspace) == 1
