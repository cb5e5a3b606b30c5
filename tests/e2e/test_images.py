"""An image classifier on a real cluster: real scans of digits, trained on two workers, measured, served."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from examples.demo_data.digits import row_of
from tests.cluster.kubectl import Kubectl, Object, has_condition
from tests.e2e.jobs import succeeded
from tests.e2e.manifests import example, merge

NAME = "digits"
# One of the scans, in its 17 shades.
ZERO = [
    [0, 0, 5, 13, 9, 1, 0, 0],
    [0, 0, 13, 15, 10, 15, 5, 0],
    [0, 3, 15, 2, 0, 11, 8, 0],
    [0, 4, 12, 0, 0, 8, 8, 0],
    [0, 5, 8, 0, 0, 9, 8, 0],
    [0, 4, 11, 0, 1, 12, 7, 0],
    [0, 2, 14, 5, 10, 12, 0, 0],
    [0, 0, 6, 13, 10, 0, 0, 0],
]
# Prints the answer's header X-Cycle-Cache and its body.
CALL = """
import json, sys, urllib.request
url, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
with urllib.request.urlopen(request, timeout=60) as answer:
    print(json.dumps([answer.headers.get("X-Cycle-Cache", ""), json.load(answer)]))
"""


@pytest.fixture(scope="module")
def learned(workspace: Kubectl) -> Object:
    """The example CycleJob with two variants and fewer steps, through every stage."""
    job = example("imageclassification/cyclejob")
    variants = [variant for variant in job["spec"]["variants"] if variant["name"] in ("fp32", "int8")]
    small = {"training": {"maximumSteps": 300}, "variants": variants, "profile": {"batchSizes": [1, 4]}}
    return succeeded(workspace, merge(job, {"spec": small}))


@pytest.fixture(scope="module")
def serving(workspace: Kubectl, learned: Object) -> Iterator[Object]:
    service = example("imageclassification/cycleservice")
    assert service["spec"]["model"]["cycleJob"] == learned["metadata"]["name"]
    easy = {"budget": {"latency": {"milliseconds": 500}}, "traffic": {"requestsPerSecond": 5}}
    workspace.apply(merge(service, {"spec": easy}))
    yield workspace.wait_for("cycleservice", NAME, has_condition("Ready", "True"), timeout_seconds=240)
    workspace.delete("cycleservice", NAME)


def numbers(entry: Object) -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in entry["metrics"]}


def test_the_variants_beat_what_compares_mean_images(workspace: Kubectl, learned: Object) -> None:
    status = learned["status"]
    assert status["model"]["fromRandomWeights"] is True and status["model"]["labels"] == 10
    baselines = {entry["name"]: numbers(entry)["accuracy"] for entry in status["baselines"]}
    assert set(baselines) == {"majority", "nearestCentroid", "pixels"}
    variants = {entry["name"]: numbers(entry)["accuracy"] for entry in status["variants"]}
    assert set(variants) == {"fp32", "int8"}
    assert baselines["majority"] < baselines["nearestCentroid"] < min(variants.values())
    names = {profile["name"] for profile in status["profiles"]}
    profiles = [item["spec"] for item in workspace.list("cycleprofiles") if item["metadata"]["name"] in names]
    assert {row["sequenceLength"] for spec in profiles for row in spec["rows"]} == {1}


def test_an_image_is_answered_through_balancer_and_cache(workspace: Kubectl, serving: Object) -> None:
    assert serving["status"]["plan"]["variant"] in ("fp32", "int8")
    pixels = row_of(ZERO, 0)["image"]
    infer = f"/v2/models/{NAME}/infer"
    tensor = {"name": "image", "shape": [1, 1, 8, 8], "datatype": "UINT8", "data": pixels}
    first, again = (call(workspace, infer, {"inputs": [tensor]}) for _ in range(2))
    assert [outcome for outcome, _ in (first, again)] == ["miss", "hit"]
    assert first[1]["outputs"][0]["data"] == ["0"] and again[1]["outputs"] == first[1]["outputs"]
    _, classified = call(workspace, "/classify", {"image": pixels})
    assert classified["results"][0]["label"] == "0"


def call(workspace: Kubectl, path: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """From inside the cluster."""
    pod = workspace.list("pods", f"cycleops.dev/service={NAME},cycleops.dev/role=server")[0]["metadata"]["name"]
    url = f"http://{NAME}.{workspace.namespace}.svc{path}"
    output = workspace.run("exec", pod, "-c", "cache", "--", "python3", "-c", CALL, url, json.dumps(body))
    outcome, content = json.loads(output)
    return outcome, content
