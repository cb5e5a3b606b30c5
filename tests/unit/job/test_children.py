"""The children at each step. UPDATE_GOLDEN=1 writes the golden files anew; look at their diff."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from cycle_wire.serving import ProfilingConfig
from cycle_wire.training import TrainingConfig
from cycleops.api.cores import server_threads_of, server_workers_of, threads_of
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.api.hashes import hardware_class_hash
from cycleops.job import names
from cycleops.job.decision import Step
from cycleops.job.desired import desired_children, unwanted_children
from cycleops.job.observation import Observation
from tests.unit.job.make import child, classes, ended, evidence, observe

GOLDEN = Path(__file__).parent / "golden"
DONE = evidence("world", "model", "variants")
Body = dict[str, Any]


def at(step: Step, **changes: Any) -> dict[tuple[str, str], Body]:
    observation = observe(status=DONE, **changes) if step is not Step.TRAIN else observe(**changes)
    return {(b["kind"], b["metadata"]["name"]): b for b in desired_children(observation, step)}


@pytest.mark.parametrize("step", [Step.TRAIN, Step.COMPRESS, Step.PROFILE])
def test_the_example_gives_the_golden_children(step: Step) -> None:
    bodies = json.loads(json.dumps(list(at(step).values())))
    path = GOLDEN / f"{step.value.lower()}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(yaml.safe_dump_all(bodies, sort_keys=False, width=120))
    assert bodies == list(yaml.safe_load_all(path.read_text()))


def pods(step: Step, **changes: Any) -> dict[str, Body]:
    return {n: b["spec"]["template"] for (k, n), b in at(step, **changes).items() if k == "Job"}


@pytest.mark.parametrize("step", [Step.TRAIN, Step.COMPRESS, Step.PROFILE])
def test_every_pod_meets_pod_security_restricted_and_holds_no_api_right(step: Step) -> None:
    for name, template in pods(step).items():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
        assert all(set(v) & {"hostPath", "nfs"} == set() for v in pod["volumes"])


@pytest.mark.parametrize("step", [Step.TRAIN, Step.COMPRESS, Step.PROFILE])
def test_what_is_mounted_is_a_volume_and_every_volume_is_mounted(step: Step) -> None:
    for template in pods(step).values():
        mounted = {mount["name"] for mount in template["spec"]["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in template["spec"]["volumes"]}


def test_only_the_launcher_knows_the_private_key() -> None:
    def keys(name: str) -> list[str]:
        volumes = pods(Step.TRAIN)[name]["spec"]["volumes"]
        return [i["key"] for v in volumes if v["name"] == "ssh" for i in v["secret"]["items"]]

    assert keys("supersense-launcher") == ["ssh-privatekey"]
    assert keys("supersense-worker") == ["ssh-publickey"]


def test_a_secret_that_is_there_is_not_made_again() -> None:
    assert ("Secret", "supersense-ssh") in at(Step.TRAIN)
    assert ("Secret", "supersense-ssh") not in at(Step.TRAIN, new_keys=None)


def test_configurations_are_those_that_the_images_read() -> None:
    training = TrainingConfig.model_validate_json(
        at(Step.TRAIN)["ConfigMap", "supersense-config"]["data"]["config.json"]
    )
    assert training.world.size == 2
    assert training.model_path == "/mnt/pvc/models/all-minilm-l6-v2"
    assert training.model_digest is None
    compress = TrainingConfig.model_validate_json(
        at(Step.COMPRESS)["ConfigMap", "supersense-compress"]["data"]["config.json"]
    )
    assert compress.model_digest == DONE.model.digest if DONE.model else False
    data = at(Step.PROFILE)["ConfigMap", "supersense-profile-cpu-small"]["data"]
    profiling = ProfilingConfig.model_validate_json(data["config.json"])
    assert profiling.variants[0].path.endswith("/variants/fp32")
    assert profiling.image == "server:1"
    assert data["ca.crt"] == "CA\n"


def test_pods_are_placed_and_sized_as_their_class_says() -> None:
    template = pods(Step.TRAIN, spec={"workers": {"hardware": "gpu-l4", "replicas": 4}})["supersense-worker"]["spec"]
    assert template["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    assert template["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert template["containers"][0]["resources"] == {
        "requests": {"cpu": "4", "memory": "16Gi"},
        "limits": {"memory": "16Gi", "nvidia.com/gpu": "1"},
    }
    launcher = pods(Step.TRAIN, spec={"workers": {"hardware": "gpu-l4", "replicas": 4}})["supersense-launcher"]["spec"]
    assert "nodeSelector" not in launcher


def test_what_the_user_adds_is_there_and_what_the_operator_needs_wins() -> None:
    extra = {
        "labels": {"team": "nlp", "cycleops.dev/job": "forged"},
        "annotations": {"a": "b"},
        "serviceAccountName": "trainer",
        "imagePullSecrets": [{"name": "registry"}],
        "priorityClassName": "high",
        "tolerations": [{"key": "k", "operator": "Exists"}],
        "env": [{"name": "PROXY", "value": "p"}],
        "volumes": [{"name": "more", "emptyDir": {}}],
        "volumeMounts": [{"name": "more", "mountPath": "/more"}],
        "affinity": {"nodeAffinity": {}},
    }
    for template in pods(Step.TRAIN, spec={"podTemplate": extra}).values():
        assert template["metadata"]["labels"]["team"] == "nlp"
        assert template["metadata"]["labels"]["cycleops.dev/job"] == "supersense"
        assert template["metadata"]["annotations"] == {"a": "b"}
        spec, (container,) = template["spec"], template["spec"]["containers"]
        assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("trainer", "high")
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
        assert {"key": "k", "operator": "Exists"} in spec["tolerations"]
        assert {"name": "PROXY", "value": "p"} in container["env"]
        assert {"name": "more", "mountPath": "/more"} in container["volumeMounts"]
        assert spec["affinity"] == {"nodeAffinity": {}}


def test_images_by_spec_then_class_then_chart() -> None:
    def image(**changes: Any) -> str:
        name: str = pods(Step.TRAIN, **changes)["supersense-launcher"]["spec"]["containers"][0]["image"]
        return name

    spec = classes()["cpu-small"].model_dump()
    special = {"cpu-small": HardwareClassSpec.model_validate({**spec, "images": {"trainer": "class:1"}})}
    assert image() == "trainer:1"
    assert image(classes=special) == "class:1"
    assert image(classes=special, spec={"images": {"trainer": "spec:1"}}) == "spec:1"


@pytest.mark.parametrize(
    ("policy", "step", "gone"),
    [
        ("Running", Step.COMPRESS, {"worker"}),
        ("All", Step.COMPRESS, {"worker"}),
        ("None", Step.COMPRESS, set()),
        ("Running", Step.SUCCEED, {"worker"}),
        ("All", Step.SUCCEED, {"worker", "launcher"}),
        ("None", Step.SUCCEED, set()),
        ("Running", Step.TRAIN, set()),
        ("Running", Step.WAIT, set()),
        ("Running", Step.SUSPEND, set()),
    ],
)
def test_clean_pod_policy(policy: str, step: Step, gone: set[str]) -> None:
    observation = observe(
        child("worker", active=2), ended("launcher"), spec={"runPolicy": {"cleanPodPolicy": policy}}, status=DONE
    )
    assert {f.name.removeprefix("supersense-") for f in unwanted_children(observation, step)} == gone


@pytest.mark.parametrize("policy", ["Running", "All", "None"])
def test_a_failed_job_never_leaves_a_launcher_running(policy: str) -> None:
    observation = observe(
        child("worker", active=2), child("launcher", active=1), spec={"runPolicy": {"cleanPodPolicy": policy}}
    )
    assert "supersense-launcher" in {f.name for f in unwanted_children(observation, Step.FAIL)}


def test_suspend_stops_what_has_not_ended() -> None:
    observation = observe(child("worker", active=2), child("launcher", active=1), ended("compress"))
    bodies = desired_children(observation, Step.SUSPEND)
    assert {b["metadata"]["name"]: b["spec"] for b in bodies} == {
        "supersense-worker": {"suspend": True},
        "supersense-launcher": {"suspend": True},
    }


def test_names_stay_within_a_label_and_apart() -> None:
    long = "j" * 40
    found = {names.profile(long, hardware_class=f"{'h' * 38}-{i}") for i in range(3)}
    assert len(found) == 3
    assert all(len(name) <= 63 for name in found)


def test_a_price_does_not_make_a_measurement_outdated_and_more_memory_does() -> None:
    spec = classes()["cpu-small"]
    assert hardware_class_hash(spec) == hardware_class_hash(spec.model_copy(update={"cost_per_hour": 5}))
    assert hardware_class_hash(spec) != hardware_class_hash(spec.model_copy(update={"threads": 4}))


@pytest.mark.parametrize(("cpu", "threads"), [("500m", 1), ("1", 1), ("2", 2), ("3500m", 3), ("2.5", 2)])
def test_threads_follow_the_request(cpu: str, threads: int) -> None:
    body = {"resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}, "costPerHour": 1}
    assert threads_of(HardwareClassSpec.model_validate(body)) == threads


@pytest.mark.parametrize(("cpu", "workers", "threads"), [("4", 1, 4), ("4", 2, 2), ("5", 2, 2), ("2", 4, 1)])
def test_the_workers_of_a_server_divide_the_request(cpu: str, workers: int, threads: int) -> None:
    body = {"resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}, "costPerHour": 1, "serverWorkers": workers}
    spec = HardwareClassSpec.model_validate(body)
    assert (server_workers_of(spec), server_threads_of(spec)) == (workers, threads)
    assert server_threads_of(spec.model_copy(update={"threads": 3})) == 3, "threads are each worker's"
    assert threads_of(spec) == int(cpu), "a pod that trains has all"


def test_another_number_of_workers_makes_a_measurement_outdated() -> None:
    spec = classes()["cpu-small"]
    assert hardware_class_hash(spec) != hardware_class_hash(spec.model_copy(update={"server_workers": 2}))


def test_observations_are_frozen() -> None:
    observation: Observation = observe()
    with pytest.raises(dataclasses.FrozenInstanceError):
        observation.now = None  # type: ignore[misc,assignment]


def test_exit_codes_come_after_what_always_holds_and_only_in_the_launcher() -> None:
    rules = [
        {"codes": [137, 1], "action": "Ignore"},
        {"codes": [2], "action": "Retry"},
        {"codes": [9], "action": "Fail"},
    ]
    o = observe(spec={"runPolicy": {"exitCodes": rules}})
    launcher = next(b for b in desired_children(o, Step.TRAIN) if b["metadata"]["name"] == "supersense-launcher")
    found = launcher["spec"]["podFailurePolicy"]["rules"]
    codes = [(r["action"], r["onExitCodes"]["values"]) for r in found if "onExitCodes" in r]
    assert codes == [("FailJob", [3]), ("Ignore", [1, 137]), ("Count", [2]), ("FailJob", [9])]
    compress = desired_children(o, Step.COMPRESS)[-1]
    assert len(compress["spec"]["podFailurePolicy"]["rules"]) == 2
