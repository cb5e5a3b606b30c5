"""The operators that are measured: what a job of theirs is, which children it gets, and how each is started."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.api.job_world import SPEC, hardware_class
from tests.api.operator_process import OperatorProcess, apply, install_chart, service_account_kubeconfig
from tests.cluster.binaries import Module, build

Body = dict[str, Any]
WORKERS = 2
MPI_OPERATOR = Module(
    name="mpi-operator",
    packages=("github.com/kubeflow/mpi-operator/cmd/mpi-operator",),
    binaries=("mpi-operator",),
    folder=Path(__file__).parent / "go",
)
UNLIMITED = ("--kube-api-qps=100000", "--kube-api-burst=100000", "--controller-queue-rate-limit=100000",
             "--controller-queue-burst=100000", "--threadiness=8")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Subject:
    """``children``: of one job, as (plural, API path). ``body(name, suspend)`` makes a job."""

    name: str
    path: str
    children: tuple[tuple[str, str, int], ...]

    def body(self, name: str, *, suspend: bool) -> Body:
        return _cycle_job(name, suspend=suspend) if self.name == "cycleops" else _mpi_job(name, suspend=suspend)

    @property
    def expected(self) -> int:
        return sum(count for _, _, count in self.children)

    @contextmanager
    def running(self, client: httpx.Client, kubeconfig: Path, folder: Path) -> Iterator[int]:
        """The operator's process id, once it is ready."""
        start = _cycleops if self.name == "cycleops" else _mpi_operator
        with start(client, kubeconfig, folder) as pid:
            yield pid


CYCLEOPS = Subject(
    name="cycleops",
    path="apis/cycleops.dev/v1alpha1/namespaces/{namespace}/cyclejobs",
    children=(
        ("services", "api/v1", 1), ("configmaps", "api/v1", 1), ("secrets", "api/v1", 1),
        ("jobs", "apis/batch/v1", 2),
    ),
)  # fmt: skip
MPI = Subject(
    name="mpi-operator",
    path="apis/kubeflow.org/v2beta1/namespaces/{namespace}/mpijobs",
    children=(
        ("services", "api/v1", 1), ("configmaps", "api/v1", 1), ("secrets", "api/v1", 1),
        ("jobs", "apis/batch/v1", 1), ("pods", "api/v1", WORKERS),
    ),
)  # fmt: skip


def _cycle_job(name: str, *, suspend: bool) -> Body:
    spec = {**SPEC, "suspend": suspend}
    return {"apiVersion": "cycleops.dev/v1alpha1", "kind": "CycleJob", "metadata": {"name": name}, "spec": spec}


def _mpi_job(name: str, *, suspend: bool) -> Body:
    def replica(container: str, count: int) -> Body:
        pod = {"containers": [{"name": container, "image": "mpi:test"}], "restartPolicy": "Never"}
        return {"replicas": count, "template": {"spec": pod}}

    return {
        "apiVersion": "kubeflow.org/v2beta1",
        "kind": "MPIJob",
        "metadata": {"name": name},
        "spec": {
            "slotsPerWorker": 1,
            "runPolicy": {"suspend": suspend, "cleanPodPolicy": "Running"},
            "mpiReplicaSpecs": {"Launcher": replica("launcher", 1), "Worker": replica("worker", WORKERS)},
        },
    }


@contextmanager
def _cycleops(client: httpx.Client, kubeconfig: Path, folder: Path) -> Iterator[int]:
    install_chart(client)
    hardware_class(client, "small")
    config = service_account_kubeconfig(client, kubeconfig, folder / "kubeconfig")
    operator = OperatorProcess(kubeconfig=config, log=folder / "cycleops.log").start()
    try:
        yield operator.pid
    finally:
        operator.stop()


@contextmanager
def _mpi_operator(client: httpx.Client, kubeconfig: Path, folder: Path) -> Iterator[int]:
    program = build(MPI_OPERATOR) / "mpi-operator"
    for body in yaml.safe_load_all(_manifest("kubeflow.org_mpijobs.yaml").read_text()):
        apply(client, body)
    client.post("/api/v1/namespaces", json={"metadata": {"name": "mpi-operator"}})
    while client.get("/apis/kubeflow.org/v2beta1/mpijobs").status_code != httpx.codes.OK:
        time.sleep(0.1)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": str(kubeconfig)}
    with (folder / "mpi-operator.log").open("wb") as log:
        process = subprocess.Popen([program, *UNLIMITED], env=environment, stdout=log, stderr=log)
    try:
        _wait_for_leader(client, process)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _wait_for_leader(client: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/mpi-operator/leases/mpi-operator"
    while client.get(path).status_code != httpx.codes.OK:
        if process.poll() is not None:
            raise SystemExit(f"mpi-operator ended with code {process.returncode}; see its log")
        time.sleep(0.1)
    time.sleep(2.0)  # its caches


def _manifest(name: str) -> Path:
    """A file of the module's own manifests, as the Go module cache holds it."""
    from tests.cluster.binaries import go_compiler

    listed = subprocess.run(
        [go_compiler(), "list", "-C", MPI_OPERATOR.sources, "-m", "-json", "github.com/kubeflow/mpi-operator"],
        capture_output=True, text=True, check=True, env={**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off"},
    )  # fmt: skip
    return Path(json.loads(listed.stdout)["Dir"]) / "manifests" / "base" / name
