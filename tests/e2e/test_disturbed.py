"""One training on a real cluster, and all that happens to trainings: it goes on from its newest checkpoint."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.install import OPERATOR_NAMESPACE
from tests.cluster.clusters import Cluster, EmbeddedCluster
from tests.cluster.kubectl import Kubectl, Object, condition
from tests.e2e.manifests import small_job
from tests.e2e.scripts import KILL_RANK

NAME = "disturbed"
STEPS = 400
EVERY_STEPS = 5
PATIENCE_SECONDS = 300  # for images, scheduling, ranks that find each other, and a few steps
END_SECONDS = 900  # for all the steps that are left
OPERATOR = "deployment/cycleops"
API_SERVER_DOWN_SECONDS = 30


class Training:
    """The CycleJob as it is now."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl

    def job(self) -> Object:
        found = self.kubectl.get("cyclejob", NAME)
        assert found is not None
        return found

    def step(self) -> int:
        return int(self.job().get("status", {}).get("lastCheckpoint", {}).get("step", 0))

    def restarts(self) -> int:
        return int(self.job().get("status", {}).get("restarts", 0))

    def pods(self, role: str) -> list[str]:
        found = self.kubectl.list("pods", f"cycleops.dev/job={NAME},cycleops.dev/role={role}")
        alive = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return sorted(pod["metadata"]["name"] for pod in alive if pod["status"]["phase"] == "Running")

    def goes_on(self) -> None:
        """Until two more checkpoints than there are now: then new steps were computed."""
        before = self.step()
        wait_until(lambda: self.step() >= min(before + 2 * EVERY_STEPS, STEPS), why=f"no step after {before}")
        assert condition(self.job(), "Succeeded")["status"] == "Unknown", "it ended before all of it had happened"


def wait_until(holds: Callable[[], bool], *, why: str, seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, why
        time.sleep(1)


@pytest.fixture(scope="module")
def training(workspace: Kubectl) -> Iterator[Training]:
    small = {"maximumSteps": STEPS, "globalBatchSize": 8, "microBatchSize": 4}
    policy = {"backoffLimit": 10, "checkpoint": {"everySteps": EVERY_STEPS, "keep": 2}}
    workspace.apply(small_job(NAME, variants=[{"name": "fp32"}], training=small, runPolicy=policy))
    yield Training(workspace)
    workspace.delete("cyclejob", NAME)


def test_a_rank_is_killed(training: Training) -> None:
    training.goes_on()
    before = training.restarts()
    training.kubectl.run("exec", training.pods("worker")[1], "--", "python3", "-c", KILL_RANK)
    wait_until(lambda: training.restarts() > before, why="its failure was not counted")
    training.goes_on()


def test_a_workers_pod_is_deleted(training: Training) -> None:
    training.kubectl.delete("pod", training.pods("worker")[-1], "--grace-period=0", "--force")
    wait_until(lambda: says_what_happened(training.job()), why="nobody said so")
    training.goes_on()


def says_what_happened(job: Object) -> bool:
    """The message counts the failures and names the step of the newest checkpoint."""
    message = condition(job, "Succeeded")["message"]
    return "after failing" in message and ("goes on from step" in message or "newest checkpoint is of step" in message)


def test_the_launcher_is_deleted(training: Training) -> None:
    launcher = training.pods("launcher")[0]
    training.kubectl.delete("pod", launcher)
    wait_until(lambda: training.pods("launcher") not in ([], [launcher]), why="no other launcher")
    training.goes_on()


def test_the_node_is_drained(training: Training) -> None:
    """Of this job's pods; they wait until the node takes pods again."""
    node = training.kubectl.list("nodes")[0]["metadata"]["name"]
    selector = f"--pod-selector=cycleops.dev/job={NAME}"
    training.kubectl.run(
        *("drain", node, selector, "--delete-emptydir-data", "--force", "--timeout=100s"), timeout_seconds=120
    )
    try:
        wait_until(lambda: not training.pods("worker") and not training.pods("launcher"), why="they stayed")
    finally:
        training.kubectl.run("uncordon", node)
    training.goes_on()


def test_the_operator_is_down_while_a_worker_goes(training: Training) -> None:
    operator = training.kubectl.within(OPERATOR_NAMESPACE)
    operator.run("scale", OPERATOR, "--replicas=0")
    try:
        wait_until(lambda: not operator.list("pods", "app.kubernetes.io/name=cycleops"), why="the operator stayed")
        worker = training.pods("worker")[0]
        training.kubectl.delete("pod", worker, "--grace-period=0", "--force")
        wait_until(lambda: len(training.pods("worker")) == 2, why="its Job replaced no worker")
    finally:
        operator.run("scale", OPERATOR, "--replicas=1")
    operator.run("rollout", "status", OPERATOR, "--timeout=120s", timeout_seconds=130)
    training.goes_on()


def test_the_api_server_does_not_answer_for_a_while(training: Training, cluster: Cluster) -> None:
    if not isinstance(cluster, EmbeddedCluster):
        pytest.skip("the API server of a cluster that others run is not ours to stop")
    before = training.step()
    process = api_server(cluster)
    os.kill(process, signal.SIGSTOP)
    try:
        time.sleep(API_SERVER_DOWN_SECONDS)
    finally:
        os.kill(process, signal.SIGCONT)
    wait_until(lambda: training.step() > before, why="no step was reported since")


def api_server(cluster: EmbeddedCluster) -> int:
    """Its process: the one whose certificates lie in this cluster's folder."""
    folder = str(cluster.running.settings.runtime)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            program, *flags = (process / "cmdline").read_bytes().decode().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        if Path(program).name == "kube-apiserver" and any(folder in flag for flag in flags):
            return int(process.name)
    raise AssertionError("no API server")


def test_it_ends_with_every_step_in_a_verified_world(training: Training) -> None:
    ended = ("True", "False")
    wait_until(
        lambda: condition(training.job(), "Succeeded")["status"] in ended, why="it never ended", seconds=END_SECONDS
    )
    job = training.job()
    assert condition(job, "Succeeded")["status"] == "True", condition(job, "Failed")["message"]
    status = job["status"]
    assert status["progress"]["step"] == status["lastCheckpoint"]["step"] == STEPS
    assert status["world"]["size"] == 2
    goodput = status["goodput"]
    assert goodput["restartingSeconds"] > 0
    assert 0 < goodput["ratio"] < 1
