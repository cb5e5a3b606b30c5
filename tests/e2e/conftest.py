"""One cluster with the operator, data and one trained job for the whole run; a failing test prints the logs."""

from collections.abc import Iterator

import pytest

from demo.install import install_operator, operator_logs, prepare_namespace
from tests.cluster.binaries import binary
from tests.cluster.kubectl import Kubectl, KubectlError, Object
from tests.e2e.jobs import succeeded
from tests.e2e.manifests import EXAMPLES, PAIR, hardware_pair, small_job

NAMESPACE = "e2e"
IMAGES = ("operator", "trainer", "server", "balancer", "cache", "demo-data")


@pytest.fixture(scope="session")
def admin(cluster) -> Iterator[Kubectl]:  # type: ignore[no-untyped-def]
    """kubectl as the cluster's administrator; the operator itself has only its chart's rights."""
    yield Kubectl(cluster.kubeconfig, str(binary("kubectl")))


@pytest.fixture(scope="session")
def images(cluster) -> dict[str, str]:  # type: ignore[no-untyped-def]
    loaded: dict[str, str] = cluster.load_images(*IMAGES)
    return loaded


@pytest.fixture(scope="session")
def workspace(admin: Kubectl, images: dict[str, str]) -> Kubectl:
    """The operator is installed; the namespace has claims, data and the hardware classes."""
    install_operator(kubectl=admin, helm=binary("helm"), images=images)
    prepare_namespace(kubectl=admin, namespace=NAMESPACE, demo_data_image=images["demo-data"], faults=True)
    admin.apply(EXAMPLES / "hardwareclass.yaml")
    admin.apply(hardware_pair())
    return admin.within(NAMESPACE)


@pytest.fixture(scope="session")
def trained(workspace: Kubectl) -> Object:
    """A CycleJob that ran through every stage: train, compress, profile on two classes."""
    job = small_job("trained")
    job["spec"]["profile"]["hardware"].append(PAIR)
    return succeeded(workspace, job)


@pytest.fixture(autouse=True)
def logs_of_a_failure(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a person would look at first: the operator's log, the pods and the events."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed > failed_before and "workspace" in request.fixturenames:
        workspace: Kubectl = request.getfixturevalue("workspace")
        try:
            print(operator_logs(workspace))
            print(workspace.run("get", "pods,jobs,cyclejobs,cycleservices", "-o", "wide"))
            print(workspace.run("get", "events", "--sort-by=.lastTimestamp")[-4000:])
        except KubectlError as error:
            print(f"no logs: {error}")
