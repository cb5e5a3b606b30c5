"""The loop on a real API server: writes only what differs, brings back what was changed, survives being killed."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.api.job_world import Body, JobWorld
from tests.api.operator_process import USER, wait_until
from tests.api.reports import progress, world

CHILDREN = {
    "services/demo-workers",
    "configmaps/demo-config",
    "secrets/demo-ssh",
    "jobs/demo-worker",
    "jobs/demo-launcher",
}
IDLE_SECONDS = 20.0
BACK_SECONDS = 5.0
_WRITES = ("create", "update", "patch", "delete", "deletecollection")


def writes(audit_log: Path, *, namespace: str | None = None) -> list[str]:
    """Successful and refused writes of the operator's ServiceAccount. Token reviews store nothing."""
    found = []
    for line in audit_log.read_text().splitlines():
        event = json.loads(line)
        target = event.get("objectRef", {})
        if event["user"]["username"] != USER or event["verb"] not in _WRITES or target["resource"] == "tokenreviews":
            continue
        if namespace is None or target.get("namespace") == namespace:
            found.append(f"{event['verb']} {target['resource']}/{target.get('name')} {target.get('subresource', '')}")
    return found


def everything_there(w: JobWorld) -> None:
    wait_until(lambda: w.children() == CHILDREN, what=lambda: f"all children, are {w.children()}")
    w.expect("Succeeded", "Unknown", "Starting")


def settled(log: Path, namespace: str) -> list[str]:
    """The writes so far, once there were none for a second."""
    before: list[str] = []

    def quiet() -> bool:
        nonlocal before
        now, last = writes(log, namespace=namespace), before
        before = now
        time.sleep(1.0)
        return now == last == writes(log, namespace=namespace)

    wait_until(quiet, seconds=30, what="no more writes")
    return before


def test_creation_takes_one_write_per_child_and_few_of_the_status(job_world: JobWorld, api_server: Any) -> None:
    began = time.monotonic()
    job_world.create()
    wait_until(lambda: job_world.children() == CHILDREN)
    print(f"all children {1000 * (time.monotonic() - began):.0f} ms after creation (seen by polling)")
    done = settled(api_server.logs / "audit.log", job_world.namespace)
    assert len([w for w in done if "status" not in w]) == len(CHILDREN), done
    assert len([w for w in done if "status" in w]) <= 3, done


def test_a_second_pass_and_an_idle_operator_write_nothing(job_world: JobWorld, api_server: Any) -> None:
    job_world.create()
    everything_there(job_world)
    job_world.run("worker", 2)
    job_world.report("worker", world(), progress(10))
    wait_until(lambda: job_world.status().get("progress"))
    job_world.expect("Succeeded", "Unknown", "Training")
    before = settled(api_server.logs / "audit.log", job_world.namespace)
    passes = job_world.operator.metric("cycleops_reconcile_total")
    # A label of the user's is an event, and so a pass, and no business of ours.
    path = job_world.path("apis/cycleops.dev/v1alpha1", "cyclejobs", "demo")
    for number in range(5):
        label = {"metadata": {"labels": {"users": str(number)}}}
        headers = {"Content-Type": "application/merge-patch+json"}
        job_world.client.patch(path, headers=headers, content=json.dumps(label)).raise_for_status()
        time.sleep(0.2)
    assert job_world.operator.metric("cycleops_reconcile_total") > passes, "there were passes"
    time.sleep(IDLE_SECONDS)
    assert writes(api_server.logs / "audit.log", namespace=job_world.namespace) == before


def test_a_resync_writes_nothing(job_world: JobWorld, api_server: Any) -> None:
    job_world.create()
    everything_there(job_world)
    before = settled(api_server.logs / "audit.log", job_world.namespace)
    job_world.operator.stop()
    process = job_world.operator.again("resync", CYCLEOPS_RESYNC_SECONDS="1").start()
    try:
        # Three resyncs, each a pass over every CycleJob.
        wait_until(lambda: process.metric("cycleops_reconcile_total") >= 3, seconds=20)
        assert writes(api_server.logs / "audit.log", namespace=job_world.namespace) == before
    finally:
        process.stop()


EDITS: dict[str, Body] = {
    "services/demo-workers": {"spec": {"selector": {"cycleops.dev/role": "nobody"}, "publishNotReadyAddresses": False}},
    "configmaps/demo-config": {"data": {"config.json": "{}", "hostfile": None}},
    "jobs/demo-launcher": {"spec": {"suspend": True}, "metadata": {"labels": {"cycleops.dev/job": "demo"}}},
    "jobs/demo-worker": {"spec": {"parallelism": 1, "completions": 1}},
}
GROUPS = {"services": "api/v1", "configmaps": "api/v1", "secrets": "api/v1", "jobs": "apis/batch/v1"}


def child_path(w: JobWorld, child: str) -> str:
    plural, name = child.split("/")
    return w.path(GROUPS[plural], plural, name)


def content(w: JobWorld, child: str) -> Body:
    """What the operator wants of it."""
    body = w.client.get(child_path(w, child)).raise_for_status().json()
    spec = {k: v for k, v in body.get("spec", {}).items() if k in ("suspend", "parallelism", "completions", "selector")}
    return {"data": body.get("data"), "spec": spec, "owner": body["metadata"]["ownerReferences"]}


@pytest.mark.parametrize("child", sorted(EDITS))
def test_an_edited_child_is_put_right(job_world: JobWorld, child: str) -> None:
    job_world.create()
    everything_there(job_world)
    before = content(job_world, child)
    headers = {"Content-Type": "application/merge-patch+json"}
    edited = job_world.client.patch(child_path(job_world, child), headers=headers, content=json.dumps(EDITS[child]))
    assert edited.is_success, edited.text
    wait_until(lambda: content(job_world, child) == before, seconds=BACK_SECONDS, what=f"{child} as it was")


@pytest.mark.parametrize("child", sorted(CHILDREN))
def test_a_deleted_child_is_back(job_world: JobWorld, child: str) -> None:
    job_world.create()
    everything_there(job_world)
    path = child_path(job_world, child)
    uid = job_world.client.get(path).json()["metadata"]["uid"]
    job_world.client.delete(path, params={"propagationPolicy": "Background"}).raise_for_status()

    def back() -> bool:
        answer = job_world.client.get(path)
        return answer.is_success and answer.json()["metadata"]["uid"] != uid

    wait_until(back, seconds=BACK_SECONDS, what=f"{child} is back")


@pytest.mark.parametrize("count", range(len(CHILDREN) + 1))
def test_killed_at_any_moment_it_goes_on_to_the_same_children(job_world: JobWorld, count: int) -> None:
    """SIGKILL as soon as so many children are seen: before the first write, between writes, after the last."""
    job_world.operator.kill()
    process = job_world.operator.again("killed").start()
    try:
        job_world.create()
        wait_until(lambda: len(job_world.children()) >= count, seconds=20)
        process.kill()
        survived = job_world.children()
        print(f"killed at {count} with {len(survived)} of {len(CHILDREN)} children")
        uids = {c: job_world.client.get(child_path(job_world, c)).json()["metadata"]["uid"] for c in survived}
        process.start()
        everything_there(job_world)
        for child, uid in uids.items():
            assert job_world.client.get(child_path(job_world, child)).json()["metadata"]["uid"] == uid, child
    finally:
        process.stop()


def test_of_a_user_object_only_the_status_is_the_operators(job_world: JobWorld) -> None:
    made = job_world.create()
    everything_there(job_world)
    job_world.run("worker", 2)
    job_world.report("worker", world())
    job_world.expect("Succeeded", "Unknown", "Training")
    now = job_world.job()
    assert now is not None
    assert now["spec"] == made["spec"]
    assert now["metadata"]["generation"] == 1
    for name in ("labels", "annotations", "finalizers", "ownerReferences"):
        assert now["metadata"].get(name) == made["metadata"].get(name)
    owned = [entry for entry in now["metadata"]["managedFields"] if "cycleops" in entry["manager"]]
    assert {entry.get("subresource") for entry in owned} == {"status"}
    assert all(set(entry["fieldsV1"]) == {"f:status"} for entry in owned)


def test_sigterm_drains_quickly(job_world: JobWorld) -> None:
    job_world.operator.stop()
    process = job_world.operator.again("drain").start()
    job_world.create()
    assert process.stop() < 30.0
    process.start()
    everything_there(job_world)
    process.stop()
