"""One CycleService on a real API server, and the hands of everyone else around it: user, job, kubelet, pods."""

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import yaml

from cycle_wire.reports import Message, Report
from cycle_wire.training import JobIdentity
from tests.api.job_world import merged
from tests.api.operator_process import OperatorProcess, apply, wait_until
from tests.api.reporting import post_report, token_of
from tests.unit.service.make import EXAMPLES, MODEL, profile

Body = dict[str, Any]
OURS = "apis/cycleops.dev/v1alpha1"
_MERGE = {"Content-Type": "application/merge-patch+json"}
# Where the children's kinds live.
PLURALS = {
    "deployments": "apis/apps/v1",
    "services": "api/v1",
    "configmaps": "api/v1",
    "poddisruptionbudgets": "apis/policy/v1",
}


@dataclass
class ServiceWorld:
    client: httpx.Client
    operator: OperatorProcess
    namespace: str
    name: str = "supersense"
    addresses: dict[str, str] = field(default_factory=dict)
    sequence: int = 0

    def path(self, group: str, plural: str, name: str | None = None) -> str:
        place = f"/{group}/namespaces/{self.namespace}/{plural}"
        return place if name is None else f"{place}/{name}"

    # The user

    def hardware(self) -> None:
        apply(self.client, next(yaml.safe_load_all((EXAMPLES / "hardwareclass.yaml").read_text())))

    def claim(self, name: str) -> None:
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        body = {"metadata": {"name": name}, "spec": spec}
        self.client.post(self.path("api/v1", "persistentvolumeclaims"), json=body).raise_for_status()

    def create(self, **changes: Any) -> None:
        """The example, with ``changes`` of its spec."""
        body = yaml.safe_load((EXAMPLES / "cycleservice.yaml").read_text())
        body["metadata"]["name"] = self.name
        body["spec"] = merged(body["spec"], changes)
        answer = self.client.post(self.path(OURS, "cycleservices"), json=body)
        assert answer.status_code == 201, answer.text

    def change(self, **spec: Any) -> None:
        path = self.path(OURS, "cycleservices", self.name)
        answer = self.client.patch(path, headers=_MERGE, content=json.dumps({"spec": spec}))
        assert answer.is_success, answer.text

    # The CycleJob

    def job(self, **changes: Any) -> None:
        """The example's job, suspended: it trains nothing here."""
        body = yaml.safe_load((EXAMPLES / "cyclejob.yaml").read_text())
        body["spec"] = {**body["spec"], "suspend": True, **changes}
        self.client.post(self.path(OURS, "cyclejobs"), json=body).raise_for_status()

    def profiles(self, **of: Any) -> None:
        """What the job's profiling pods would have measured: fp32 and a faster, slightly worse int8."""
        for measured in (profile("fp32", compute_ms=12.0, **of), profile("int8", compute_ms=4.0, f1=0.735, **of)):
            body = {
                "apiVersion": "cycleops.dev/v1alpha1",
                "kind": "CycleProfile",
                "metadata": {"name": measured.metadata.name},
                "spec": measured.spec.to_dict(),
            }
            self.client.post(self.path(OURS, "cycleprofiles"), json=body).raise_for_status()

    @property
    def model(self) -> Body:
        """For ``create``: the model by URI and digest, with no job."""
        return {"cycleJob": None, "uri": MODEL.uri, "digest": MODEL.digest}

    # What is seen

    def service(self) -> Body:
        result: Body = self.client.get(self.path(OURS, "cycleservices", self.name)).raise_for_status().json()
        return result

    def status(self) -> Body:
        result: Body = self.service().get("status", {})
        return result

    def condition(self, type: str) -> Body:
        return next((c for c in self.status().get("conditions", []) if c["type"] == type), {})

    def expect(self, type: str, status: str, reason: str, *, words: str = "", seconds: float = 20.0) -> None:
        def holds() -> bool:
            c = self.condition(type)
            return (c.get("status"), c.get("reason")) == (status, reason) and words in c.get("message", "")

        wait_until(
            holds,
            seconds=seconds,
            what=lambda: f"{type}={status} ({reason}, {words!r}); is {self.condition(type)}\n{self.operator.tail(15)}",
        )

    def child(self, plural: str, name: str) -> Body:
        answer = self.client.get(self.path(PLURALS[plural], plural, name))
        return {} if answer.status_code == 404 else answer.raise_for_status().json()

    def children(self) -> set[str]:
        """plural/name of everything that the CycleService controls."""
        uid, found = self.service()["metadata"]["uid"], set()
        for plural, group in PLURALS.items():
            for item in self.client.get(self.path(group, plural)).raise_for_status().json()["items"]:
                if any(r["uid"] == uid for r in item["metadata"].get("ownerReferences", [])):
                    found.add(f"{plural}/{item['metadata']['name']}")
        return found

    # The kubelet

    def pods(self, role: str) -> list[Body]:
        selector = {"labelSelector": f"cycleops.dev/service={self.name},cycleops.dev/role={role}"}
        items = self.client.get(self.path("api/v1", "pods"), params=selector).raise_for_status().json()["items"]
        return sorted(
            (i for i in items if "deletionTimestamp" not in i["metadata"]), key=lambda i: i["metadata"]["name"]
        )

    def run(self, role: str, count: int, *, address: str = "127.0.99.1") -> None:
        """The kubelet says that the pods run and are ready."""
        wait_until(lambda: len(self.pods(role)) >= count, seconds=30, what=f"{count} pods of {role}")
        for pod in self.pods(role):
            now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            condition = {"type": "Ready", "status": "True", "lastTransitionTime": now}
            self.set_pod(
                pod, phase="Running", startTime=now, podIP=address, podIPs=[{"ip": address}], conditions=[condition]
            )

    def end(self, pod: Body) -> None:
        """The kubelet says that the pod did its work."""
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.set_pod(pod, phase="Succeeded", startTime=now)

    # The pods

    def report(self, pod: Body, message: Message) -> httpx.Response:
        self.sequence += 1
        uid = self.service()["metadata"]["uid"]
        report = Report(
            job=JobIdentity(kind="CycleService", namespace=self.namespace, name=self.name, uid=uid),
            pod=pod["metadata"]["name"],
            sequence=self.sequence,
            message=message,
        )
        return post_report(self.client, self.operator, report.to_json(), token=token_of(self.client, pod))

    def set_pod(self, pod: Body, **status: Any) -> None:
        path = self.path("api/v1", "pods", pod["metadata"]["name"]) + "/status"
        self.client.patch(path, headers=_MERGE, content=json.dumps({"status": status})).raise_for_status()


def started_world(client: httpx.Client, operator: OperatorProcess) -> Iterator[ServiceWorld]:
    """A namespace with the model's claim, watched by the running operator; for a fixture."""
    if not operator.running:
        operator.start()
    namespace = f"service-{uuid.uuid4().hex[:8]}"
    client.post("/api/v1/namespaces", json={"metadata": {"name": namespace}}).raise_for_status()
    made = ServiceWorld(client=client, operator=operator, namespace=namespace)
    made.hardware()
    made.claim("models")
    yield made
    client.delete(made.path("apis/cycleops.dev/v1alpha1", "cycleservices"))
    client.delete(f"/api/v1/namespaces/{namespace}")
