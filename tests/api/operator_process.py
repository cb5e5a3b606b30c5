"""The operator as a process of its own, under the ServiceAccount and RBAC of its chart."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from tests.api.kubeapi import connect
from tests.cluster.binaries import binary

ROOT = Path(__file__).parents[2]
NAMESPACE = "cycleops-system"
READY_SECONDS = 30.0
USER = f"system:serviceaccount:{NAMESPACE}:cycleops"
_NOT_IN_PODS = ("Deployment",)  # here the operator is a process, not a pod


def install_chart(client: httpx.Client) -> None:
    """What `helm template` renders, applied: CRDs, ServiceAccount, roles, Service."""
    client.post("/api/v1/namespaces", json={"metadata": {"name": NAMESPACE}})
    command = [str(binary("helm")), "template", "cycleops", str(ROOT / "charts/cycleops"), "--namespace", NAMESPACE]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for body in yaml.safe_load_all(rendered):
        if body is not None and body["kind"] not in _NOT_IN_PODS:
            apply(client, body)
    for plural in ("cyclejobs", "cycleservices", "cycleprofiles", "hardwareclasses"):
        wait_until(lambda plural=plural: client.get(f"/apis/cycleops.dev/v1alpha1/{plural}").status_code == 200)


def apply(client: httpx.Client, body: dict[str, Any]) -> None:
    version = body["apiVersion"]
    cluster_wide = body["kind"] in ("CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "HardwareClass")
    place = "" if cluster_wide else f"/namespaces/{body['metadata'].get('namespace', NAMESPACE)}"
    plural = body["kind"].lower() + ("es" if body["kind"].endswith("s") else "s")
    path = f"/{'apis' if '/' in version else 'api'}/{version}{place}/{plural}/{body['metadata']['name']}"
    answer = client.patch(
        path,
        params={"fieldManager": "helm", "force": "true"},
        headers={"Content-Type": "application/apply-patch+yaml"},
        content=json.dumps(body),
    )
    assert answer.is_success, answer.text


def service_account_kubeconfig(client: httpx.Client, admin: Path, target: Path) -> Path:
    """A kubeconfig with a token of the operator's ServiceAccount and nothing of the admin's."""
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/cycleops/token"
    answer = client.post(path, json={"spec": {"expirationSeconds": 7200}})
    content = yaml.safe_load(admin.read_text())
    content["users"] = [{"name": "operator", "user": {"token": answer.raise_for_status().json()["status"]["token"]}}]
    content["contexts"][0]["context"]["user"] = "operator"
    target.write_text(yaml.safe_dump(content))
    target.chmod(0o600)
    return target


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Any, *, seconds: float = 10.0, what: str | Callable[[], str] = "") -> Any:
    """The condition's value once it is true. AssertionError when it is not in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if callable(what) else what or condition}"
        time.sleep(0.02)


@dataclass
class OperatorProcess:
    """Start it, kill it, start it again: ports and credentials stay."""

    kubeconfig: Path
    log: Path
    metrics_port: int = field(default_factory=free_port)
    report_port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def report_url(self) -> str:
        return f"https://127.0.0.1:{self.report_port}/v1/report"

    def again(self, name: str, **environment: str) -> "OperatorProcess":
        """Another process in the place of this one: the same ports, so that running pods find it."""
        log = self.log.with_name(f"{name}.log")
        return replace(self, log=log, environment=environment, _process=None)

    def start(self, *, wait: bool = True) -> Self:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.log.parent),
            "KUBECONFIG": str(self.kubeconfig),
            "CYCLEOPS_NAMESPACE": NAMESPACE,
            "CYCLEOPS_REPORT_URL": self.report_url,
            "CYCLEOPS_REPORT_PORT": str(self.report_port),
            "CYCLEOPS_METRICS_PORT": str(self.metrics_port),
            "CYCLEOPS_TRAINER_IMAGE": "cycleops/trainer:test",
            "CYCLEOPS_SERVER_IMAGE": "cycleops/server:test",
            "CYCLEOPS_BALANCER_IMAGE": "cycleops/balancer:test",
            "CYCLEOPS_CACHE_IMAGE": "cycleops/cache:test",
            **self.environment,
        }
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cycleops.controller.main"], env=environment, stdout=output, stderr=output
            )
        if wait:
            wait_until(self.is_ready, seconds=READY_SECONDS, what=lambda: f"operator ready; its log:\n{self.tail()}")
        return self

    def is_ready(self) -> bool:
        assert self._process is not None and self._process.poll() is None, f"the operator ended:\n{self.tail()}"
        try:
            return httpx.get(f"http://127.0.0.1:{self.metrics_port}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, as a node that dies would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> float:
        """SIGTERM; returns the seconds it took to drain."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=40)
        return time.monotonic() - began

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def metric(self, name: str) -> float:
        """Sum over the labels of one of the operator's own metrics."""
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", trust_env=False).text
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith((name + " ", name + "{"))
        )


def authority(client: httpx.Client) -> str:
    """The report server's CA, PEM."""
    secret = client.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/cycleops-report-tls").raise_for_status().json()
    return base64.b64decode(secret["data"]["ca.crt"]).decode()


__all__ = ["NAMESPACE", "USER", "OperatorProcess", "apply", "authority", "connect", "install_chart", "wait_until"]
