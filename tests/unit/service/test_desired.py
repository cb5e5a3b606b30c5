"""The children of a service. UPDATE_GOLDEN=1 writes the golden file anew; look at its diff."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.service.balancer import secret_names
from cycleops.service.deployed import Deployed, read_deployed
from cycleops.service.desired import desired_children, unwanted_children
from cycleops.service.evidence import find_evidence
from cycleops.service.haproxy import GRPC_PORT
from cycleops.service.planning import Planning
from cycleops.service.policies import decide
from cycleops.service.settings import ServiceSettings
from tests.unit.service.make import (
    OWNER,
    SETTINGS,
    deployed,
    deployment,
    hardware,
    observation,
    profile,
    sources,
    spec,
)

GOLDEN = Path(__file__).parent / "golden" / "supersense.yaml"
Body = dict[str, Any]


def children(
    of: Deployed | None = None,
    *,
    spec_: CycleServiceSpec | None = None,
    class_: HardwareClassSpec | None = None,
    settings: ServiceSettings = SETTINGS,
    secrets: dict[str, str] | None = None,
) -> dict[tuple[str, str], Body]:
    bodies = desired_children(
        owner=OWNER,
        spec=spec_ or spec(),
        deployed=of or deployed(),
        hardware=class_ or hardware(),
        settings=settings,
        secrets=secrets or {},
    )
    return {(body["kind"], body["metadata"]["name"]): body for body in bodies}


def server_pod(**arguments: Any) -> Body:
    pod: Body = children(**arguments)["Deployment", "supersense-server"]["spec"]["template"]
    return pod


def config(name: str, **arguments: Any) -> Body:
    content: Body = json.loads(children(**arguments)["ConfigMap", "supersense-serving"]["data"][name])
    return content


def test_the_example_gives_the_golden_children() -> None:
    bodies = json.loads(json.dumps(list(children().values())))
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(yaml.safe_dump_all(bodies, sort_keys=False, width=120))
    assert bodies == list(yaml.safe_load_all(GOLDEN.read_text()))


def test_every_pod_meets_pod_security_restricted() -> None:
    for (kind, name), body in children().items():
        if kind != "Deployment":
            continue
        pod = body["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}


def test_the_server_gets_its_class() -> None:
    accelerated = hardware(
        accelerator={"kind": "GPU", "resource": "nvidia.com/gpu", "count": 2},
        resources={"requests": {"cpu": 4, "memory": "16Gi"}, "limits": {"memory": "16Gi"}},
        threads=None,
        nodeSelector={"gpu": "l4"},
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        runtimeClassName="nvidia",
        images={"server": "cycleops/server:cuda"},
    )
    pod = server_pod(class_=accelerated)["spec"]
    server = pod["containers"][0]
    assert server["image"] == "cycleops/server:cuda"
    assert server["resources"] == {
        "requests": {"cpu": "4", "memory": "16Gi"},
        "limits": {"memory": "16Gi", "nvidia.com/gpu": "2"},
    }
    assert {"name": "OMP_NUM_THREADS", "value": "4"} in server["env"]
    assert (pod["nodeSelector"], pod["runtimeClassName"]) == ({"gpu": "l4"}, "nvidia")
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert config("server.json", class_=accelerated)["threads"] == 4


@pytest.mark.parametrize(
    ("accelerator", "device"),
    [
        (None, "cpu"),
        ({"kind": "GPU", "resource": "nvidia.com/gpu"}, "cuda"),
        ({"kind": "TPU", "resource": "google.com/tpu"}, "tpu"),
    ],
)
def test_the_server_computes_on_the_accelerator_of_its_class(accelerator: dict[str, str] | None, device: str) -> None:
    assert config("server.json", class_=hardware(accelerator=accelerator))["device"] == device


def test_the_workers_of_the_class_share_its_cores() -> None:
    class_ = hardware(
        resources={"requests": {"cpu": 4, "memory": "16Gi"}, "limits": {"memory": "16Gi"}},
        threads=None,
        serverWorkers=2,
    )
    written = config("server.json", class_=class_)
    assert (written["workers"], written["threads"]) == (2, 2)
    assert {"name": "OMP_NUM_THREADS", "value": "2"} in server_pod(class_=class_)["spec"]["containers"][0]["env"]


def test_images_go_by_spec_then_class_then_chart() -> None:
    own = spec(images={"server": "mine:1", "balancer": "mine:2"})
    class_ = hardware(images={"server": "cycleops/server:cuda"})
    bodies = children(spec_=own, class_=class_)
    images = {
        name: [c["image"] for c in body["spec"]["template"]["spec"]["containers"]]
        for (kind, name), body in bodies.items()
        if kind == "Deployment"
    }
    assert images == {"supersense-server": ["mine:1", "mine:1"], "supersense-balancer": ["mine:2"]}


def test_a_users_pod_template_is_added_and_the_operators_labels_win() -> None:
    template = {
        "labels": {"team": "nlp", "cycleops.dev/role": "mine"},
        "annotations": {"note": "x"},
        "serviceAccountName": "reader",
        "env": [{"name": "LEVEL", "value": "1"}],
        "volumes": [{"name": "extra", "emptyDir": {"medium": "Memory"}}],
        "volumeMounts": [{"name": "extra", "mountPath": "/extra", "readOnly": False}],
        "tolerations": [{"operator": "Exists"}],
    }
    pod = server_pod(spec_=spec(podTemplate=template))
    assert pod["metadata"]["labels"]["team"] == "nlp"
    assert pod["metadata"]["labels"]["cycleops.dev/role"] == "server"
    assert pod["metadata"]["annotations"]["note"] == "x"
    assert pod["spec"]["serviceAccountName"] == "reader"
    assert {"name": "extra", "emptyDir": {"medium": "Memory"}} in pod["spec"]["volumes"]
    for container in pod["spec"]["containers"]:
        assert {"name": "LEVEL", "value": "1"} in container["env"]
        assert {"name": "extra", "mountPath": "/extra"} in container["volumeMounts"]


@pytest.mark.parametrize(
    "changed",
    [
        {"of": deployed(variant="fp32")},
        {"of": deployed(batch_size=8)},
        {"of": deployed(batch_invariant=False)},
        {"spec_": spec(cache={"l1": {"size": "128Mi"}})},
    ],
)
def test_another_plan_or_cache_rolls_the_server_pods_only(changed: Body) -> None:
    before, after = children(), children(**changed)

    def annotation(bodies: dict[tuple[str, str], Body], name: str) -> str:
        found: str = bodies["Deployment", name]["spec"]["template"]["metadata"]["annotations"][
            "cycleops.dev/config-hash"
        ]
        return found

    assert annotation(before, "supersense-server") != annotation(after, "supersense-server")
    assert annotation(before, "supersense-balancer") == annotation(after, "supersense-balancer")


def test_more_replicas_roll_nothing() -> None:
    before, after = server_pod(), server_pod(of=deployed(replicas=5))
    assert before == after


def test_the_cache_is_off_without_a_spec_and_for_answers_that_depend_on_neighbours() -> None:
    assert config("sidecar.json")["sizeBytes"] == 64 * 2**20
    assert config("sidecar.json", spec_=spec(cache=None))["sizeBytes"] == 0
    assert config("sidecar.json", of=deployed(batch_invariant=False))["cacheable"] is False


@pytest.mark.parametrize("invariant", [True, False])
async def test_only_what_was_measured_not_to_depend_on_its_neighbours_is_cached(invariant: bool) -> None:
    """All the way from the profile to the sidecar's configuration."""
    profiles = tuple(profile(name, batch_invariant=invariant) for name in ("fp32", "int8"))
    of = sources(profiles=profiles)
    evidence = find_evidence(of)
    found = await Planning().outcome(
        "uid", spec=of.spec, evidence=evidence, classes=of.classes, requests_per_second=20.0
    )
    assert found.plan is not None
    assert found.batch_invariant is invariant
    decision = decide(observation(evidence=evidence, outcome=found))
    assert decision.deploy is not None
    assert decision.deploy.batch_invariant is invariant
    assert config("sidecar.json", of=decision.deploy)["cacheable"] is invariant


def test_the_server_gets_the_limit_of_each_tenant() -> None:
    assert "tenantTextsPerSecond" not in config("server.json")
    traffic = {"requestsPerSecond": 20, "tenantLimit": {"textsPerSecond": "2.5", "burstTexts": 10}}
    limited = config("server.json", spec_=spec(traffic=traffic))
    assert (limited["tenantTextsPerSecond"], limited["tenantBurstTexts"]) == (2.5, 10)


def test_the_model_is_mounted_read_only_where_its_path_points() -> None:
    pod = server_pod()["spec"]
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["model"] == {"name": "model", "mountPath": "/mnt/pvc/models", "readOnly": True}
    assert config("server.json")["variantPath"] == f"/mnt/pvc/models/supersense/sha256-{'a1' * 32}/variants/int8"


def test_one_replica_has_no_disruption_budget() -> None:
    key = ("PodDisruptionBudget", "supersense-server")
    many, one = children(), children(deployed(replicas=1))
    assert key in many
    assert key not in one
    there = deployment("supersense-server", wanted=2, available=2)
    facts = {key: next(iter(there.values())), **there}
    assert list(unwanted_children(list(one.values()), observed=facts)) == [facts[key]]
    assert unwanted_children(list(many.values()), observed=facts) == []


def test_what_is_deployed_is_read_back_from_the_deployment() -> None:
    body = children()["Deployment", "supersense-server"]
    facts = deployment("supersense-server", wanted=2, available=2)
    assert read_deployed(facts, service="supersense") is None
    annotations = body["metadata"]["annotations"]
    told = deployment("supersense-server", wanted=2, available=2, annotations=annotations)
    assert read_deployed(told, service="supersense") == deployed()


def test_tls_and_keys_are_mounted_where_haproxy_looks_and_a_new_version_rolls_the_balancers() -> None:
    guarded = spec(tls={"secretRef": {"name": "front"}}, auth={"apiKeySecretRef": {"name": "keys"}})
    assert secret_names(guarded) == ["front", "keys"]
    one = children(spec_=guarded, secrets={"front": "1", "keys": "1"})
    pod = one["Deployment", "supersense-balancer"]["spec"]["template"]
    volumes = {volume["name"]: volume["secret"] for volume in pod["spec"]["volumes"] if "secret" in volume}
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    text = one["ConfigMap", "supersense-balancer"]["data"]["haproxy.cfg"]
    files = {f"{mounts[name]}/{item['path']}" for name, volume in volumes.items() for item in volume["items"]}
    assert files == {"/etc/haproxy-tls/tls.pem", "/etc/haproxy-tls/tls.pem.key", "/etc/haproxy-keys/keys.map"}
    assert {file for file in files if file in text} == files - {"/etc/haproxy-tls/tls.pem.key"}
    assert one["Service", "supersense"]["spec"]["ports"][0]["port"] == 443
    two = children(spec_=guarded, secrets={"front": "1", "keys": "2"})["Deployment", "supersense-balancer"]
    assert two["spec"]["template"]["metadata"] != pod["metadata"]
    assert two["spec"]["template"]["spec"] == pod["spec"]


@pytest.mark.parametrize("tls", [None, {"secretRef": {"name": "front"}}])
def test_grpc_has_its_ports_only_where_it_is_asked_for(tls: Body | None) -> None:
    plain, asked = children(spec_=spec(tls=tls)), children(spec_=spec(tls=tls, grpc={"port": 9443}))
    http, *others = asked["Service", "supersense"]["spec"]["ports"]
    assert plain["Service", "supersense"]["spec"]["ports"] == [http]
    protocol = "https" if tls else "kubernetes.io/h2c"
    assert others == [
        {"name": "grpc", "port": 9443, "targetPort": GRPC_PORT, "protocol": "TCP", "appProtocol": protocol}
    ]
    for of, wanted in ((plain, False), (asked, True)):
        assert json.loads(of["ConfigMap", "supersense-serving"]["data"]["sidecar.json"])["grpc"] is wanted
        assert (f"bind :{GRPC_PORT}" in of["ConfigMap", "supersense-balancer"]["data"]["haproxy.cfg"]) is wanted
    for name, added in (("supersense-balancer", {GRPC_PORT}), ("supersense-server", set())):
        ports = [
            [port["containerPort"] for container in of["Deployment", name]["spec"]["template"]["spec"]["containers"]
             for port in container.get("ports", [])] for of in (plain, asked)
        ]  # fmt: skip
        assert set(ports[1]) - set(ports[0]) == added
