"""The whole path on a real cluster: what a job leaves behind, what a service does with it, and answers to requests."""

import json
from collections.abc import Iterator

import pytest

from cycle_server.protocol.timing import TERMS, parse_timing
from tests.cluster.kubectl import Kubectl, Object, condition, has_condition
from tests.e2e.manifests import PAIR, merge, service_for

INFER = "/v2/models/{name}/infer"


def test_job_proves_its_world_and_shows_its_numbers(trained: Object) -> None:
    status = trained["status"]
    assert status["world"]["size"] == 2
    assert len(status["world"]["hosts"]) == 2
    assert status["progress"]["step"] == status["progress"]["totalSteps"] == 40
    assert status["lastCheckpoint"]["step"] == 40
    assert status["model"]["digest"].startswith("sha256:")
    for kind in ("WorldVerified", "Trained", "Compressed", "Profiled", "Succeeded"):
        assert condition(trained, kind)["status"] == "True", kind
    sizes = {variant["name"]: variant["sizeBytes"] for variant in status["variants"]}
    assert sizes["int8"] < sizes["fp32"]
    assert {entry["name"] for entry in status["baselines"]} == {"majority", "bagOfWords"}


def test_each_variant_has_a_profile_on_its_class(workspace: Kubectl, trained: Object) -> None:
    names = {profile["name"] for profile in trained["status"]["profiles"]}
    profiles = [item["spec"] for item in workspace.list("cycleprofiles") if item["metadata"]["name"] in names]
    assert {(spec["variant"], spec["hardwareClass"]) for spec in profiles} == {
        ("fp32", "cpu-small"), ("int8", "cpu-small"), ("fp32", PAIR), ("int8", PAIR),
    }  # fmt: skip
    for spec in profiles:
        cells = {(row["batchSize"], row["sequenceLength"]) for row in spec["rows"]}
        assert cells == {(1, 16), (1, 64), (4, 16), (4, 64)}
        assert all(sum(row["compute"]["counts"]) >= 5 for row in spec["rows"])
        assert {metric["name"] for metric in spec["metrics"]} == {"accuracy", "f1Macro"}


def test_finished_job_holds_no_running_pods(workspace: Kubectl, trained: Object) -> None:
    pods = workspace.list("pods", f"cycleops.dev/job={trained['metadata']['name']}")
    assert not [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] in ("Running", "Pending")]


@pytest.fixture(scope="module")
def serving(workspace: Kubectl, trained: Object) -> Iterator[Object]:
    """A CycleService of the trained job; 40 steps of training reach no floor, so it asks for none."""
    service = service_for("serving", trained["metadata"]["name"])
    service["spec"]["budget"]["accuracy"] = {"metric": "f1Macro", "minimum": "0.001"}
    workspace.apply(service)
    yield workspace.wait_for("cycleservice", "serving", has_condition("Ready", "True"), timeout_seconds=180)
    workspace.delete("cycleservice", "serving")


def ask(workspace: Kubectl, name: str, text: str) -> tuple[Object, dict[str, str]]:
    """One request from inside the cluster, through the balancer; the answer and its headers."""
    script = (
        "import json,sys,urllib.request as u;"
        "r=u.urlopen(u.Request(sys.argv[1],sys.argv[2].encode(),{'Content-Type':'application/json'}),timeout=20);"
        "print(json.dumps([json.load(r),{k.lower():v for k,v in r.headers.items()}]))"
    )
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}
    url = f"http://{name}.{workspace.namespace}.svc{INFER.format(name=name)}"
    pod = workspace.list("pods", f"cycleops.dev/service={name},cycleops.dev/role=server")[0]["metadata"]["name"]
    output = workspace.run("exec", pod, "-c", "cache", "--", "python3", "-c", script, url, json.dumps(body))
    answer, headers = json.loads(output)
    return answer, headers


def test_service_explains_its_plan(serving: Object) -> None:
    status = serving["status"]
    plan, predicted = status["plan"], status["plan"]["predicted"]
    assert plan["hardware"] == "cpu-small"
    assert 0 < predicted["p50Ms"] <= predicted["p99Ms"] <= 500
    assert all(entry["message"] for entry in status["rejected"])
    assert status["url"].startswith("http://serving.")


@pytest.mark.usefixtures("serving")
def test_answers_and_remembers(workspace: Kubectl) -> None:
    text = "a small domesticated carnivore that purrs and catches mice"
    first, first_headers = ask(workspace, "serving", text)
    second, second_headers = ask(workspace, "serving", text)
    outputs = {output["name"]: output for output in first["outputs"]}
    assert outputs["label"]["data"][0]
    assert 0 < outputs["probability"]["data"][0] <= 1
    assert first_headers["x-cycle-cache"] == "miss"
    assert second_headers["x-cycle-cache"] == "hit"
    assert second["outputs"] == first["outputs"]
    for headers, known in ((first_headers, {"cache", *TERMS}), (second_headers, {"cache"})):
        terms = parse_timing(headers["server-timing"])
        total = terms.pop("total")  # the balancer's
        assert set(terms) == {"transport", *known}
        assert sum(terms.values()) == pytest.approx(total, rel=0.02, abs=8e-6)


def test_impossible_budget_names_the_nearest(workspace: Kubectl, trained: Object) -> None:
    budget = {
        "latency": {"milliseconds": "0.5"},
        "accuracy": {"minimum": "0.001", "maximumDrop": None, "baseline": None},
    }
    workspace.apply(service_for("hurry", trained["metadata"]["name"], budget=budget))
    judged = workspace.wait_for("cycleservice", "hurry", has_condition("Feasible", "False"), timeout_seconds=90)
    feasible = condition(judged, "Feasible")
    assert feasible["reason"] == "LatencyInfeasible"
    nearest = {entry["dimension"]: entry for entry in judged["status"]["nearestFeasible"]}
    assert float(nearest["latency"]["value"]) > 0.5
    assert condition(judged, "Ready")["status"] != "True"
    workspace.delete("cycleservice", "hurry")


def test_infeasible_change_leaves_the_old_plan_serving(workspace: Kubectl, serving: Object) -> None:
    workspace.apply(merge(stripped(serving), {"spec": {"budget": {"latency": {"milliseconds": "0.5"}}}}))
    judged = workspace.wait_for("cycleservice", "serving", has_condition("Feasible", "False"), timeout_seconds=90)
    assert condition(judged, "Ready")["status"] == "True"
    answer, _ = ask(workspace, "serving", "an instrument for measuring time")
    assert answer["outputs"]
    workspace.apply(stripped(serving))
    workspace.wait_for("cycleservice", "serving", has_condition("Feasible", "True"), timeout_seconds=90)


def test_accuracy_floor_that_no_variant_reaches(workspace: Kubectl, trained: Object) -> None:
    accuracy = {"metric": "f1Macro", "minimum": "0.999", "maximumDrop": None, "baseline": None}
    workspace.apply(service_for("exact", trained["metadata"]["name"], budget={"accuracy": accuracy}))
    judged = workspace.wait_for("cycleservice", "exact", has_condition("Feasible", "False"), timeout_seconds=90)
    assert condition(judged, "Feasible")["reason"] == "AccuracyInfeasible"
    assert "0.999" in condition(judged, "Feasible")["message"]
    workspace.delete("cycleservice", "exact")


def test_service_waits_for_an_unfinished_job(workspace: Kubectl, trained: Object) -> None:
    job = stripped(trained)
    job["metadata"]["name"] = "unfinished"
    job["spec"] |= {"suspend": True, "output": {"uri": "pvc://models/unfinished"}}
    workspace.apply(job)
    workspace.apply(service_for("early", "unfinished"))
    waiting = workspace.wait_for("cycleservice", "early", has_condition("ModelReady", "False", "JobNotFinished"))
    assert "unfinished" in condition(waiting, "ModelReady")["message"]
    workspace.delete("cycleservice", "early")
    workspace.delete("cyclejob", "unfinished")


def stripped(item: Object) -> Object:
    """The object as its user wrote it: no status, no server-side metadata."""
    keep = ("apiVersion", "kind", "spec")
    return {"metadata": {"name": item["metadata"]["name"]}, **{key: item[key] for key in keep}}
