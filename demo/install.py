"""Steps that the demo and the end-to-end tests share: the operator by its chart, a namespace with claims and data."""

import subprocess
from pathlib import Path
from string import Template
from typing import Any

import yaml

from tests.cluster.kubectl import Kubectl, KubectlError

ROOT = Path(__file__).parent.parent
MANIFESTS = Path(__file__).parent / "manifests"
OPERATOR_NAMESPACE = "cycleops-system"
CHART = ROOT / "charts/cycleops"


class InstallError(RuntimeError):
    """A step that everything else needs did not succeed; the message holds the tool's output."""


def install_operator(*, kubectl: Kubectl, helm: Path, images: dict[str, str]) -> None:
    """`helm upgrade --install` of the chart into a namespace that enforces Pod Security `restricted`.

    Args:
        images: image name (``operator``, ``trainer``, ...) to the reference that the cluster has. ``cache`` is only for
            services whose shared cache is managed.
    """
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": OPERATOR_NAMESPACE, "labels": labels}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    command = [
        str(helm), "upgrade", "--install", "cycleops", str(CHART), "--kubeconfig", str(kubectl.kubeconfig),
        "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "3m",
    ]  # fmt: skip
    for name in ("operator", "trainer", "server", "balancer", *({"cache"} & images.keys())):
        command += ["--set-string", f"images.{name}={images[name]}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pods = kubectl.within(OPERATOR_NAMESPACE)
        raise InstallError(f"helm: {done.stderr}\n{pods.run('describe', 'pods')[-3000:]}\n{operator_logs(kubectl)}")


def operator_logs(kubectl: Kubectl, lines: int = 60) -> str:
    try:
        return kubectl.within(OPERATOR_NAMESPACE).logs("deployment/cycleops", f"--tail={lines}")
    except KubectlError as error:
        return f"(no logs of the operator: {error})"


def render(name: str, **values: str) -> list[dict[str, Any]]:
    """The objects of a manifest with ${...} filled in. KeyError when a value is missing."""
    mapping = {key.replace("_", "-"): value for key, value in values.items()}
    text = DashTemplate((MANIFESTS / name).read_text()).substitute(mapping)
    return [item for item in yaml.safe_load_all(text) if item]


class DashTemplate(Template):
    """Names may have dashes, as image names do."""

    braceidpattern = r"[a-z][-a-z0-9]*"


def prepare_namespace(
    *, kubectl: Kubectl, namespace: str, demo_data_image: str, faults: bool = False, timeout_seconds: float = 300
) -> None:
    """A restricted namespace with the claims `models` and `data`, filled with MiniLM and the WordNet files.

    With `faults` there are files with one thing wrong each, too, for tests.
    """
    place(kubectl, render("namespace.yaml"), namespace)
    items = render("data.yaml", demo_data=demo_data_image)
    if faults:
        items[0]["spec"]["template"]["spec"]["containers"][0]["args"] = ["--faults"]
    place(kubectl, items, namespace)
    inside = kubectl.within(namespace)
    finished = inside.wait_for("job", "demo-data", job_is_over, timeout_seconds=timeout_seconds)
    if not finished["status"].get("succeeded"):
        raise InstallError(f"the data job failed:\n{inside.logs('job/demo-data', '--tail=40')}")


def place(kubectl: Kubectl, items: list[dict[str, Any]], namespace: str) -> None:
    """Apply the demo's objects under another namespace's name."""
    for item in items:
        if item["kind"] == "Namespace":
            item["metadata"]["name"] = namespace
        else:
            item["metadata"]["namespace"] = namespace
    kubectl.within(namespace).apply(items)


def job_is_over(job: dict[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(entry["type"] in ("Complete", "Failed") and entry["status"] == "True" for entry in conditions)
