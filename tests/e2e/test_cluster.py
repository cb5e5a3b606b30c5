"""The embedded cluster itself: what pods can do in it, two at once, and that nothing of one stays behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import embedded
from tests.cluster.binaries import binary
from tests.cluster.builders import docker_works
from tests.cluster.clusters import Cluster, EmbeddedCluster
from tests.cluster.keeper import State
from tests.cluster.kubectl import Kubectl, KubectlError, Object
from tests.cluster.paths import REPOSITORY
from tests.cluster.settings import Settings

DEBIAN = "bookworm"
POD_SECONDS = 60
# A shell lets what it starts in the background ignore Ctrl-C, and so would everything that the tests start.
CALLER = """
import signal, time
from tests.cluster import embedded
signal.signal(signal.SIGINT, signal.default_int_handler)
print(embedded.start(full=True).settings.to_json(), flush=True)
time.sleep(600)
"""
SECURITY = {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
# perl is part of Debian's minimal system; it speaks TCP where no curl is.
CONNECT = 'exit !IO::Socket::INET->new(PeerAddr => "kubernetes.default:443", Timeout => 5)'

needs_embedded = pytest.mark.skipif(
    bool(os.environ.get("KUBECONFIG")) or bool(shutil.which("kind") and docker_works()),
    reason="KUBECONFIG or kind takes the embedded cluster's place here",
)


def kubectl_of(cluster: Cluster, namespace: str = "default") -> Kubectl:
    return Kubectl(cluster.kubeconfig, str(binary("kubectl")), namespace)


def pod(name: str, image: str, script: str, **spec: Any) -> Object:
    """A pod that runs a shell script once and meets Pod Security `restricted`."""
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in spec.get("volumes", [])]
    container = {
        "name": "main",
        "image": image,
        "command": ["sh", "-ec", script],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    body = {"restartPolicy": "Never", "securityContext": SECURITY, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}


def output_of(kubectl: Kubectl, manifest: Object) -> str:
    """Run a pod to its end; what it printed. Fails when it doesn't succeed."""
    name = manifest["metadata"]["name"]
    kubectl.apply(manifest)
    ended = kubectl.wait_for(
        "pod", name, lambda item: phase(item) in ("Succeeded", "Failed"), timeout_seconds=POD_SECONDS
    )
    text = kubectl.logs(name)
    assert phase(ended) == "Succeeded", text
    return text


def phase(item: Object) -> str:
    return str(item["status"].get("phase"))


def has_ended(item: Object) -> bool:
    return phase(item) in ("Succeeded", "Failed")


def is_running(item: Object) -> bool:
    return phase(item) == "Running"


@pytest.fixture(scope="module")
def restricted(cluster: Cluster) -> Iterator[Kubectl]:
    """A namespace that enforces Pod Security `restricted`."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": "restricted-pods", "labels": labels}
    kubectl_of(cluster).apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    yield kubectl_of(cluster, "restricted-pods")
    kubectl_of(cluster).delete("namespace", "restricted-pods", "--wait=false")


@pytest.fixture(scope="module")
def debian(cluster: Cluster) -> str:
    return cluster.load_images(DEBIAN)[DEBIAN]


def test_a_pod_resolves_names_and_reaches_the_api_server(restricted: Kubectl, debian: str) -> None:
    script = f"getent hosts kubernetes.default; perl -MIO::Socket::INET -e '{CONNECT}'; echo connected"
    text = output_of(restricted, pod("names", debian, script))
    service = restricted.within("default").get("service", "kubernetes")
    assert service is not None
    assert text.split()[0] == service["spec"]["clusterIP"]
    assert "connected" in text


def test_a_name_outside_the_cluster_is_answered_with_no(restricted: Kubectl, debian: str) -> None:
    script = "for name in name.invalid no-such-service.default; do getent hosts $name && exit 1; done; echo none"
    assert output_of(restricted, pod("no-names", debian, script)).split() == ["none"]


def test_a_claim_binds_and_a_plain_user_writes_on_it(restricted: Kubectl, debian: str) -> None:
    for mode in ("ReadWriteOnce", "ReadWriteMany"):
        name = mode.lower()
        spec = {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}}
        restricted.apply(
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
        )
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": name}}]
        output_of(restricted, pod(f"{name}-writes", debian, "id -u > /data/who", volumes=volumes))
        assert output_of(restricted, pod(f"{name}-reads", debian, "cat /data/who", volumes=volumes)).strip() == "1000"
    restricted.delete("pod", "readwriteonce-writes")


def test_a_root_pod_is_rejected_where_restricted_is_enforced(restricted: Kubectl, debian: str) -> None:
    manifest = pod("root", debian, "true")
    manifest["spec"]["securityContext"] = {"runAsUser": 0}
    with pytest.raises(KubectlError, match='violates PodSecurity "restricted'):
        restricted.apply(manifest)


def test_exec_and_logs_work_on_a_running_pod(restricted: Kubectl, debian: str) -> None:
    restricted.apply(pod("lives", debian, "echo hello; sleep 600"))
    restricted.wait_for("pod", "lives", is_running, timeout_seconds=POD_SECONDS)
    assert restricted.logs("lives").strip() == "hello"
    assert restricted.run("exec", "lives", "--", "id", "-u").strip() == "1000"
    restricted.delete("pod", "lives", "--grace-period=0", "--force")


def test_a_loaded_image_is_not_loaded_again(cluster: Cluster, debian: str) -> None:
    began = time.monotonic()
    assert cluster.load_images(DEBIAN)[DEBIAN] == debian
    assert time.monotonic() - began < 5


def traces(settings: Settings) -> list[str]:
    """Everything on this host that belongs to a full cluster, in words; empty when it left nothing."""
    found = [f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"*{settings.cgroup}")]
    found += [f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(settings.cgroup.strip("/"))]
    if (Path("/sys/class/net") / settings.link).exists():
        found.append(f"link {settings.link}")
    found += [f"mount {line}" for line in Path("/proc/self/mounts").read_text().splitlines() if settings.name in line]
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    found += [f"route {line}" for line in routes.splitlines() if settings.pod_cidr in line]
    marks = (str(settings.work).encode() + b"/", str(settings.containerd_root).encode() + b"/")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes() + b"/"
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(mark in words for mark in marks):
            found.append(f"process {folder.name}: {words[:200]!r}")
    if settings.runtime.exists():
        found.append(f"folder {settings.runtime}")
    return found


def processes(settings: Settings) -> list[str]:
    return [trace for trace in traces(settings) if trace.startswith("process")]


def wait_until(holds: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@needs_embedded
def test_two_clusters_at_once_each_run_a_pod_and_leave_nothing() -> None:
    started = [EmbeddedCluster(embedded.start(full=True)) for _ in range(2)]
    every = [one.running.settings for one in started]
    try:
        assert len({one.slot for one in every}) == 2
        for one in started:
            image = one.load_images(DEBIAN)[DEBIAN]
            kubectl_of(one).apply(pod("lives", image, "hostname -i; sleep 600"))
        for one in started:
            # A kubelet that took the other's pods for orphans would end one of them.
            kubectl = kubectl_of(one)
            kubectl.wait_for("pod", "lives", is_running, timeout_seconds=POD_SECONDS)
        time.sleep(5)
        for one in started:
            seen = kubectl_of(one).get("pod", "lives")
            assert seen is not None and phase(seen) == "Running"
            assert seen["status"]["containerStatuses"][0]["restartCount"] == 0
            assert traces(one.running.settings)
        started[0].stop()
        assert traces(every[0]) == []
        seen = kubectl_of(started[1]).get("pod", "lives")
        assert seen is not None and phase(seen) == "Running"
    finally:
        for one in started:
            one.stop()
    assert traces(every[1]) == []


@needs_embedded
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_the_caller_is_ended(number: signal.Signals) -> None:
    with start_caller() as caller:
        settings = settings_of(caller)
        assert traces(settings), "the check must see a running cluster"
        caller.send_signal(number)
        caller.wait(timeout=10)
    assert wait_until(lambda: not traces(settings), seconds=30), traces(settings)
    assert (settings.logs / "kubelet.log").exists()


@needs_embedded
def test_a_killed_keeper_takes_the_cluster_along_and_the_next_start_clears_up() -> None:
    with start_caller() as caller:
        settings = settings_of(caller)
        state = State.read(settings.work)
        assert state is not None
        os.kill(state.keeper_pid, signal.SIGKILL)
        assert wait_until(lambda: not processes(settings), seconds=15), processes(settings)
    with start_caller() as again:
        assert settings_of(again).slot == settings.slot
    assert wait_until(lambda: not traces(settings), seconds=30), traces(settings)


@contextmanager
def start_caller() -> Iterator[subprocess.Popen[str]]:
    """A program that starts a cluster and waits, as a test run would; a failing test does not wait for its end."""
    with subprocess.Popen([sys.executable, "-c", CALLER], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as caller:
        try:
            yield caller
        finally:
            caller.kill()


def settings_of(caller: subprocess.Popen[str]) -> Settings:
    assert caller.stdout is not None
    return Settings.from_json(caller.stdout.readline())
