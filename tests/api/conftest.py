"""A real API server for the session, the operator under its chart's ServiceAccount, a namespace per test."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.job_world import JobWorld, hardware_class
from tests.api.operator_process import OperatorProcess, connect, install_chart, service_account_kubeconfig


@pytest.fixture(scope="session")
def admin(api_server: Any) -> Iterator[httpx.Client]:
    with connect(api_server.kubeconfig) as client:
        yield client


@pytest.fixture(scope="session")
def chart(admin: httpx.Client) -> None:
    install_chart(admin)
    hardware_class(admin, "small")


@pytest.fixture(scope="session")
def operator_kubeconfig(api_server: Any, admin: httpx.Client, chart: None, tmp_path_factory: Any) -> Any:
    del chart
    target = tmp_path_factory.mktemp("operator") / "kubeconfig"
    return service_account_kubeconfig(admin, api_server.kubeconfig, target)


@pytest.fixture(scope="session")
def operator(operator_kubeconfig: Any) -> Iterator[OperatorProcess]:
    process = OperatorProcess(kubeconfig=operator_kubeconfig, log=operator_kubeconfig.parent / "operator.log").start()
    yield process
    if process.running:
        process.stop()


@pytest.fixture
def job_world(admin: httpx.Client, operator: OperatorProcess) -> Iterator[JobWorld]:
    """A namespace with the claims of the spec, watched by the running operator."""
    if not operator.running:
        operator.start()
    namespace = f"job-{uuid.uuid4().hex[:8]}"
    admin.post("/api/v1/namespaces", json={"metadata": {"name": namespace}}).raise_for_status()
    world = JobWorld(client=admin, operator=operator, namespace=namespace)
    world.claims("models", "data")
    yield world
    admin.delete(world.path("apis/cycleops.dev/v1alpha1", "cyclejobs"))
    admin.delete(f"/api/v1/namespaces/{namespace}")
