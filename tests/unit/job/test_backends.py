"""A training without a launcher: its children, and what the workers' Job says of it."""

import json
from typing import Any

import pytest

from cycle_wire.parts import Transport
from cycle_wire.reports import WorldReport
from cycle_wire.training import TrainingConfig
from cycleops.api.cyclejob_status import CycleJobStatus
from cycleops.api.reasons import Reason
from cycleops.job.decide import decide
from cycleops.job.decision import Step
from cycleops.job.desired import desired_children, unwanted_children
from cycleops.job.observation import Observation
from tests.unit.job.make import child, ended, evidence, observe, world_report

TORCHRUN = {"workers": {"backend": "Torchrun"}}
GLOO = {"workers": {"transport": "Gloo"}}
RULES = [{"codes": [42], "action": "Fail"}, {"codes": [143], "action": "Ignore"}]


def over_gloo() -> WorldReport:
    return world_report().model_copy(update={"transport": "Gloo"})


def trains(*children: Any, **changes: Any) -> Observation:
    """The example with torchrun, whose world was reported."""
    world = evidence("world").world
    assert world is not None
    known = CycleJobStatus(world=world.model_copy(update={"transport": "Gloo"}))
    return observe(*children, spec=TORCHRUN, **{"status": known, **changes})


@pytest.mark.parametrize("spec", [TORCHRUN, GLOO], ids=["Torchrun", "Gloo"])
def test_without_a_launcher_there_is_no_ssh_and_the_workers_are_the_training(spec: dict[str, Any]) -> None:
    o = observe(spec={**spec, "runPolicy": {"backoffLimit": 2, "exitCodes": RULES}}, new_keys=None)
    service, config, job = desired_children(o, Step.TRAIN)
    assert service["spec"]["ports"] == [{"name": "rendezvous", "port": 29400, "protocol": "TCP"}]
    told = TrainingConfig.model_validate_json(config["data"]["config.json"])
    assert (told.world.transport, told.rendezvous_port) == (Transport.GLOO, 29400)
    assert job["metadata"]["name"] == "supersense-worker"
    assert (job["spec"]["backoffLimitPerIndex"], job["spec"]["maxFailedIndexes"]) == (2, 0)
    assert job["spec"]["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}
    codes = [(r["action"], r.get("onExitCodes", {}).get("values")) for r in job["spec"]["podFailurePolicy"]["rules"]]
    assert codes == [("FailJob", [3]), ("Ignore", None), ("FailJob", [42]), ("Ignore", [143])]
    pod = job["spec"]["template"]["spec"]
    assert (pod["restartPolicy"], pod["containers"][0]["command"]) == ("Never", ["cycle-trainer", "ranks"])
    assert "ssh" not in json.dumps(pod) and "readinessProbe" not in pod["containers"][0]


def test_only_the_backend_tells_the_manifests_apart() -> None:
    bodies = [desired_children(observe(spec=spec, new_keys=None), Step.TRAIN) for spec in (TORCHRUN, GLOO)]
    configs = [json.loads(b[1].pop("data")["config.json"]) for b in bodies]
    assert bodies[0] == bodies[1]
    backends = [config["world"].pop("backend") for config in configs]
    assert backends == ["Torchrun", "Horovod"] and configs[0] == configs[1]


def test_ranks_that_talk_otherwise_than_the_spec_says_fail_the_job() -> None:
    decision = decide(observe(spec=TORCHRUN, reports=(world_report(),)))
    assert (decision.step, decision.reason) == (Step.FAIL, Reason.WORLD_MISMATCH)
    assert "talk over MPI, but spec.workers asks for Gloo" in decision.message
    assert decide(observe(spec=TORCHRUN, reports=(over_gloo(),))).reason == Reason.TRAINING


def test_an_attempt_fails_once_though_every_worker_fails() -> None:
    for pods, attempts in ((1, 1), (2, 1), (3, 2), (4, 2)):
        assert trains(child("worker", active=2, failed=pods)).failures == attempts


def test_the_end_of_the_first_worker_is_the_end_of_the_training() -> None:
    assert decide(trains(child("worker", active=2))).step is Step.TRAIN
    assert decide(trains(ended("worker"))).reason == Reason.MODEL_NOT_REPORTED
    assert decide(observe(ended("worker"), spec=TORCHRUN)).reason == Reason.WORLD_NOT_REPORTED
    done = trains(ended("worker")).evidence.model_copy(update={"model": evidence("model").model})
    assert decide(trains(ended("worker"), status=done)).step is Step.COMPRESS


@pytest.mark.parametrize(
    ("kubernetes_says", "reason"),
    [
        ("MaxFailedIndexesExceeded", Reason.BACKOFF_LIMIT_EXCEEDED),
        ("FailedIndexes", Reason.BACKOFF_LIMIT_EXCEEDED),
        ("PodFailurePolicy", Reason.WORKER_FAILED),
    ],
)
def test_workers_that_gave_up_fail_the_job(kubernetes_says: str, reason: Reason) -> None:
    decision = decide(trains(ended("worker", failed=kubernetes_says, failures=6)))
    assert (decision.step, decision.reason) == (Step.FAIL, reason)
    assert "training failed 3 times, with 2 restarts allowed" in decision.message


@pytest.mark.parametrize(("policy", "step", "gone"), [
    ("Running", Step.COMPRESS, set()), ("None", Step.FAIL, {"worker"}), ("Running", Step.FAIL, {"worker"}),
    ("None", Step.RESTART, {"worker"}),
])  # fmt: skip
def test_what_is_deleted(policy: str, step: Step, gone: set[str]) -> None:
    workers = ended("worker") if step is Step.COMPRESS else child("worker", active=2)
    o = observe(workers, spec={**TORCHRUN, "runPolicy": {"cleanPodPolicy": policy}}, status=evidence("world", "model"))
    assert {f.name.removeprefix("supersense-") for f in unwanted_children(o, step)} == gone
