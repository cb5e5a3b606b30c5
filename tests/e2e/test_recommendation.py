"""A recommender on a real cluster: real sets, trained on two workers, measured, served."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.kubectl import Kubectl, Object, has_condition
from tests.e2e.jobs import succeeded
from tests.e2e.manifests import example, merge

NAME = "imports"
# Prints the body of the answer.
CALL = """
import sys, urllib.request
url, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
with urllib.request.urlopen(request, timeout=60) as answer:
    print(answer.read().decode())
"""


@pytest.fixture(scope="module")
def learned(workspace: Kubectl) -> Object:
    """The example CycleJob with one variant, fewer steps and one cell to measure, through every stage."""
    job = example("recommendation/cyclejob")
    small = {
        "training": {"maximumSteps": 240},
        "variants": [variant for variant in job["spec"]["variants"] if variant["name"] == "fp32"],
        "profile": {"batchSizes": [1], "sequenceLengths": [8]},
    }
    return succeeded(workspace, merge(job, {"spec": small}))


@pytest.fixture(scope="module")
def serving(workspace: Kubectl, learned: Object) -> Iterator[Object]:
    service = example("recommendation/cycleservice")
    assert service["spec"]["model"]["cycleJob"] == learned["metadata"]["name"]
    easy = {
        "budget": {"latency": {"milliseconds": 500}},
        "traffic": {"requestsPerSecond": 5, "inputTokens": {"p50": 8, "p99": 8}},
    }
    workspace.apply(merge(service, {"spec": easy}))
    yield workspace.wait_for("cycleservice", NAME, has_condition("Ready", "True"), timeout_seconds=240)
    workspace.delete("cycleservice", NAME)


def numbers(entry: Object) -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in entry["metrics"]}


def test_the_served_variant_finds_more_than_the_most_popular_items(learned: Object) -> None:
    baselines = {entry["name"]: numbers(entry) for entry in learned["status"]["baselines"]}
    (variant,) = learned["status"]["variants"]
    assert set(baselines) == {"mostPopular", "coOccurrence"}
    for name in ("recallAt10", "ndcgAt10"):
        assert numbers(variant)[name] > 1.5 * baselines["mostPopular"][name]


def test_items_are_recommended_through_the_balancer(workspace: Kubectl, serving: Object) -> None:
    assert serving["status"]["plan"]["variant"] == "fp32"
    given = ["torch", "math", "not a module"]
    (result,) = call(workspace, "/recommend", {"items": given, "top": 5})["results"]
    assert result["unknown"] == ["not a module"]
    items = [entry["item"] for entry in result["items"]]
    assert len(set(items)) == 5 and not set(items) & set(given)
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [json.dumps(given)]}
    answer = call(workspace, f"/v2/models/{NAME}/infer", {"inputs": [tensor]})
    assert answer["outputs"][0]["data"] == items[:1]


def call(workspace: Kubectl, path: str, body: dict[str, Any]) -> Any:
    """From inside the cluster."""
    pod = workspace.list("pods", f"cycleops.dev/service={NAME},cycleops.dev/role=server")[0]["metadata"]["name"]
    url = f"http://{NAME}.{workspace.namespace}.svc{path}"
    return json.loads(workspace.run("exec", pod, "-c", "cache", "--", "python3", "-c", CALL, url, json.dumps(body)))
