"""What the kubelet and the pods of a CycleJob would do, done to a real API server: the controllers there are real."""

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from cycle_wire.reports import (
    AUDIENCE,
    Message,
    Report,
)
from cycle_wire.training import JobIdentity
from tests.api.operator_process import OperatorProcess, apply, wait_until
from tests.api.reporting import post_report, token_of

Body = dict[str, Any]
SPEC: Body = {
    "task": "TextClassification",
    "model": {"uri": "pvc://models/base"},
    "data": {"train": "pvc://data/train.jsonl", "evaluation": "pvc://data/evaluation.jsonl"},
    "output": {"uri": "pvc://models/out"},
    "workers": {"replicas": 2, "hardware": "small"},
    "training": {"maximumSteps": 300, "globalBatchSize": 64, "microBatchSize": 16},
    "variants": [{"name": "fp32"}, {"name": "bf16", "precision": "BFloat16"}],
    "runPolicy": {"backoffLimit": 0},
}


def hardware_class(client: httpx.Client, name: str) -> None:
    resources = {"requests": {"cpu": "500m", "memory": "1Gi"}}
    spec = {"resources": resources, "threads": 1, "costPerHour": "0.02"}
    apply(
        client,
        {"apiVersion": "cycleops.dev/v1alpha1", "kind": "HardwareClass", "metadata": {"name": name}, "spec": spec},
    )


def merged(base: Body, changes: Body) -> Body:
    """``base`` with ``changes`` merged in, deeply; None removes."""
    result = {key: value for key, value in base.items() if key not in changes or changes[key] is not None}
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        elif value is not None:
            result[key] = value
    return result


@dataclass
class JobWorld:
    """One CycleJob in a namespace of its own, and the hands of everyone else around it."""

    client: httpx.Client
    operator: OperatorProcess
    namespace: str
    name: str = "demo"
    sequence: int = 0
    tokens: dict[str, str] = field(default_factory=dict)
    remembered: str = ""  # by a step, for a later one
    held: Body | None = None  # a pod that does not end

    # The user

    def path(self, group: str, plural: str, name: str | None = None) -> str:
        place = f"/{group}/namespaces/{self.namespace}/{plural}"
        return place if name is None else f"{place}/{name}"

    def claims(self, *names: str) -> None:
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        for name in names:
            body = {"metadata": {"name": name}, "spec": spec}
            self.client.post(self.path("api/v1", "persistentvolumeclaims"), json=body).raise_for_status()

    def create(self, **changes: Any) -> Body:
        body = {
            "apiVersion": "cycleops.dev/v1alpha1",
            "kind": "CycleJob",
            "metadata": {"name": self.name},
            "spec": merged(SPEC, changes),
        }
        answer = self.client.post(self.path("apis/cycleops.dev/v1alpha1", "cyclejobs"), json=body)
        assert answer.status_code == 201, answer.text
        result: Body = answer.json()
        return result

    def change(self, **spec: Any) -> None:
        answer = self.client.patch(
            self.path("apis/cycleops.dev/v1alpha1", "cyclejobs", self.name),
            headers={"Content-Type": "application/merge-patch+json"},
            content=json.dumps({"spec": spec}),
        )
        assert answer.is_success, answer.text

    def job(self) -> Body | None:
        answer = self.client.get(self.path("apis/cycleops.dev/v1alpha1", "cyclejobs", self.name))
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    # What is seen

    def status(self) -> Body:
        result: Body = (self.job() or {}).get("status", {})
        return result

    def condition(self, type: str) -> Body:
        return next((c for c in self.status().get("conditions", []) if c["type"] == type), {})

    def expect(self, type: str, status: str, reason: str, *, words: str = "", seconds: float = 10.0) -> None:
        def holds() -> bool:
            c = self.condition(type)
            return (c.get("status"), c.get("reason")) == (status, reason) and words in c.get("message", "")

        wait_until(
            holds,
            seconds=seconds,
            what=lambda: f"{type}={status} ({reason}, {words!r}); is {self.condition(type)}\n{self.operator.tail(15)}",
        )

    def jobs(self) -> dict[str, Body]:
        items = self.client.get(self.path("apis/batch/v1", "jobs")).raise_for_status().json()["items"]
        return {item["metadata"]["name"].removeprefix(f"{self.name}-"): item for item in items}

    def children(self) -> set[str]:
        """kind/name of everything that the CycleJob controls."""
        uid = (self.job() or {})["metadata"]["uid"]
        plurals = {"jobs": "apis/batch/v1", "services": "api/v1", "configmaps": "api/v1", "secrets": "api/v1"}
        found = set()
        for plural, group in plurals.items():
            for item in self.client.get(self.path(group, plural)).raise_for_status().json()["items"]:
                if any(r["uid"] == uid for r in item["metadata"].get("ownerReferences", [])):
                    found.add(f"{plural}/{item['metadata']['name']}")
        return found

    def expect_jobs(self, *names: str, seconds: float = 10.0) -> None:
        wait_until(
            lambda: {n for n, j in self.jobs().items() if "deletionTimestamp" not in j["metadata"]} == set(names),
            seconds=seconds,
            what=lambda: f"jobs {names}, are {list(self.jobs())}\n{self.operator.tail(15)}",
        )

    # The kubelet

    def pods(self, role: str) -> list[Body]:
        selector = {"labelSelector": f"cycleops.dev/job={self.name},cycleops.dev/role={role}"}
        items = self.client.get(self.path("api/v1", "pods"), params=selector).raise_for_status().json()["items"]
        alive = [i for i in items if "deletionTimestamp" not in i["metadata"] and not _over(i)]
        return sorted(alive, key=lambda i: str(i["metadata"]["name"]))

    def wait_for_pods(self, role: str, count: int = 1) -> list[Body]:
        found: list[Body] = wait_until(
            lambda: p if len(p := self.pods(role)) >= count else None, seconds=30, what=f"{count} pods of {role}"
        )
        return found

    def run(self, role: str, count: int = 1) -> None:
        """The kubelet says that the pods run and are ready."""
        for pod in self.wait_for_pods(role, count):
            state = {"running": {"startedAt": _now()}}
            conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": _now()}]
            self._pod_status(pod, role, phase="Running", state=state, ready=True, conditions=conditions)

    def end(self, role: str, *, exit_code: int, only: str = "") -> None:
        """The kubelet says that the containers ended, of the pods whose name begins so."""
        for pod in self.wait_for_pods(role):
            if not pod["metadata"]["name"].startswith(only):
                continue
            state = {"terminated": {"exitCode": exit_code, "startedAt": _now(), "finishedAt": _now()}}
            phase = "Failed" if exit_code else "Succeeded"
            self._pod_status(pod, role, phase=phase, state=state, ready=False, conditions=[])

    def evict(self, pod: Body) -> str:
        """The eviction API, which a drain calls. Returns the pod's uid."""
        name = pod["metadata"]["name"]
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": self.namespace}}
        self.client.post(self.path("api/v1", "pods", name) + "/eviction", json=body).raise_for_status()
        return str(pod["metadata"]["uid"])

    def hold(self, pod: Body) -> None:
        """The kubelet takes its time to end this pod, once it is deleted."""
        self.held = pod
        self._finalizers(pod, [*pod["metadata"].get("finalizers", []), "cycleops.dev/held"])

    def release(self) -> None:
        assert self.held is not None
        self._finalizers(self.held, [])
        self.held = None

    def _finalizers(self, pod: Body, finalizers: list[str]) -> None:
        self.client.patch(
            self.path("api/v1", "pods", pod["metadata"]["name"]),
            headers={"Content-Type": "application/merge-patch+json"},
            content=json.dumps({"metadata": {"finalizers": finalizers}}),
        ).raise_for_status()

    def _pod_status(
        self, pod: Body, role: str, *, phase: str, state: Body, ready: bool, conditions: list[Body]
    ) -> None:
        container = {"name": role, "image": "i", "imageID": "", "ready": ready, "restartCount": 0, "state": state}
        status = {"phase": phase, "startTime": _now(), "containerStatuses": [container], "conditions": conditions}
        self.client.patch(
            self.path("api/v1", "pods", pod["metadata"]["name"]) + "/status",
            headers={"Content-Type": "application/merge-patch+json"},
            content=json.dumps({"status": status}),
        ).raise_for_status()

    # The pods

    def token(self, pod: Body, *, audience: str = AUDIENCE) -> str:
        return token_of(self.client, pod, audience=audience)

    def send(
        self, pod: Body, message: Message, *, sequence: int | None = None, token: str | None = None
    ) -> httpx.Response:
        self.sequence += 1
        metadata = (self.job() or {})["metadata"]
        report = Report(
            job=JobIdentity(namespace=self.namespace, name=self.name, uid=metadata["uid"]),
            pod=pod["metadata"]["name"],
            sequence=sequence or self.sequence,
            message=message,
        )
        return self.post(report.to_json(), token=token or self.token(pod))

    def post(self, content: str, *, token: str) -> httpx.Response:
        return post_report(self.client, self.operator, content, token=token)

    def report(self, role: str, *messages: Message) -> None:
        pod = self.wait_for_pods(role)[0]
        for message in messages:
            answer = self.send(pod, message)
            assert answer.status_code == 200, answer.text


def _over(pod: Body) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
