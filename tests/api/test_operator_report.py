"""The report endpoint before real tokens: who may report, what is stored, what is refused."""

import json
from typing import Any

import httpx
import pytest

from tests.api.job_world import JobWorld
from tests.api.operator_process import wait_until
from tests.api.reports import DIGEST, profile, progress, trained, variants, world
from tests.api.test_operator_loop import writes


@pytest.fixture
def running(job_world: JobWorld) -> JobWorld:
    job_world.create()
    job_world.wait_for_pods("worker", 2)
    job_world.wait_for_pods("launcher")
    return job_world


def test_a_report_is_answered_when_it_is_in_the_status(running: JobWorld) -> None:
    pod = running.pods("worker")[0]
    assert running.send(pod, world()).status_code == 200
    assert running.status()["world"]["size"] == 2
    assert running.send(pod, trained()).status_code == 200
    assert running.status()["model"]["digest"] == DIGEST


def test_the_same_report_again_is_answered_and_not_written(running: JobWorld, api_server: Any) -> None:
    pod = running.pods("worker")[0]
    assert running.send(pod, world(), sequence=7).status_code == 200
    before = writes(api_server.logs / "audit.log", namespace=running.namespace)
    for _ in range(3):
        assert running.send(pod, world(), sequence=7).status_code == 200
    assert writes(api_server.logs / "audit.log", namespace=running.namespace) == before


def test_a_profile_becomes_a_cycleprofile_once(running: JobWorld) -> None:
    pod = running.pods("worker")[0]
    assert running.send(pod, trained()).status_code == 200
    assert running.send(pod, variants("fp32", "bf16")).status_code == 200
    for _ in range(2):  # also when a pod measures again and says the same with another number
        assert running.send(pod, profile("fp32")).status_code == 200
    (reference,) = running.status()["profiles"]
    (stored,) = running.client.get(running.path("apis/cycleops.dev/v1alpha1", "cycleprofiles")).json()["items"]
    assert (reference["name"], reference["variant"]) == (stored["metadata"]["name"], "fp32")
    assert stored["spec"]["rows"][0]["compute"]["counts"]
    (variant,) = [v for v in running.status()["variants"] if v["name"] == "fp32"]
    assert variant["metrics"] == [{"name": "accuracy", "value": 0.7, "rows": 3000}]


def test_progress_is_written_at_once_and_then_seldom(running: JobWorld) -> None:
    pod = running.pods("worker")[0]
    assert running.send(pod, progress(5)).status_code == 200
    wait_until(lambda: running.status().get("progress", {}).get("step") == 5)
    for step in (10, 15, 20):
        assert running.send(pod, progress(step)).status_code == 200
    assert running.status()["progress"]["step"] == 5, "at most each 30 s"
    assert running.send(pod, progress(300)).status_code == 200
    assert running.status()["progress"]["step"] == 300, "the last step is always written"


def test_no_token_or_a_wrong_one_is_401(running: JobWorld) -> None:
    pod = running.pods("worker")[0]
    assert running.send(pod, world(), token="not-a-token").status_code == 401
    other_audience = running.token(pod, audience="https://kubernetes.default.svc.cluster.local")
    assert running.send(pod, world(), token=other_audience).status_code == 401
    answer = httpx.post(running.operator.report_url, verify=False, trust_env=False)  # noqa: S501 - only the answer counts
    assert answer.status_code == 401
    assert "world" not in running.status()


def test_the_token_of_another_pod_is_403(running: JobWorld) -> None:
    mine, other = running.pods("worker")[0], running.pods("launcher")[0]
    assert running.send(mine, world(), token=running.token(other)).status_code == 403


def test_a_token_bound_to_no_pod_is_403(running: JobWorld) -> None:
    body = {"spec": {"audiences": ["cycleops-report"], "expirationSeconds": 3600}}
    path = running.path("api/v1", "serviceaccounts", "default") + "/token"
    token = running.client.post(path, json=body).raise_for_status().json()["status"]["token"]
    assert running.send(running.pods("worker")[0], world(), token=token).status_code == 403


def test_a_pod_that_only_claims_to_be_of_the_job_is_403(running: JobWorld) -> None:
    """Who may create pods in the namespace can label one, but not make it controlled by the job's Job."""
    labels = {"cycleops.dev/job": "demo", "cycleops.dev/role": "worker"}
    spec = {"containers": [{"name": "c", "image": "i"}]}
    body = {"metadata": {"name": "impostor", "labels": labels}, "spec": spec}
    pod = running.client.post(running.path("api/v1", "pods"), json=body).raise_for_status().json()
    assert running.send(pod, world()).status_code == 403


def test_the_token_of_a_pod_that_is_gone_is_refused(running: JobWorld) -> None:
    pod = running.pods("worker")[0]
    token = running.token(pod)
    path = running.path("api/v1", "pods", pod["metadata"]["name"])
    running.client.request("DELETE", path, json={"gracePeriodSeconds": 0}).raise_for_status()
    # No kubelet ends it here; the pod collector does, every 20 s.
    wait_until(lambda: running.client.get(path).status_code == 404, seconds=45)
    assert running.send(pod, world(), token=token).status_code in (401, 403)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"message": {"kind": "World"}}, "message.World.size"),
        ({"message": {"kind": "Nonsense"}}, "message"),
        ({"sequence": 0}, "sequence"),
        ({"more": 1}, "more"),
        (None, ""),
    ],
)
def test_a_malformed_report_is_422_and_says_where(running: JobWorld, change: Any, words: str) -> None:
    pod = running.pods("worker")[0]
    uid = (running.job() or {})["metadata"]["uid"]
    job = {"namespace": running.namespace, "name": "demo", "uid": uid}
    report = {"job": job, "pod": pod["metadata"]["name"], "sequence": 1, "message": json.loads(progress(1).to_json())}
    content = "{" if change is None else json.dumps({**report, **change})
    answer = running.post(content, token=running.token(pod))
    assert answer.status_code == 422
    assert words in answer.json()["message"]


def test_a_body_beyond_the_bound_is_refused(running: JobWorld) -> None:
    pod = running.pods("worker")[0]
    assert running.post("x" * 3_000_000, token=running.token(pod)).status_code == 413
