"""Plain requests to a Kubernetes API server, so that tests see its own answers."""

import base64
import ssl
import tempfile
from pathlib import Path
from typing import Any

import httpx
import yaml

from cycleops.api import API_VERSION
from cycleops.api.crd import KINDS

Object = dict[str, Any]

PLURALS = {kind.__name__: kind.PLURAL for kind in KINDS}
NAMESPACED = {kind.__name__ for kind in KINDS if kind.NAMESPACED}


def connect(kubeconfig: Path) -> httpx.Client:
    """A client with the certificates of a kubeconfig's current context."""
    cluster, user = _current(kubeconfig)
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    # No proxy of the environment stands between this host and its cluster.
    return httpx.Client(
        base_url=cluster["server"], verify=ssl_context(kubeconfig), headers=headers, trust_env=False, timeout=30
    )


def _current(kubeconfig: Path) -> tuple[Object, Object]:
    """Cluster and user of the current context."""
    content = yaml.safe_load(kubeconfig.read_text())
    named = {entry["name"]: entry["context"] for entry in content["contexts"]}[content["current-context"]]
    cluster = {entry["name"]: entry["cluster"] for entry in content["clusters"]}[named["cluster"]]
    user = {entry["name"]: entry["user"] for entry in content["users"]}[named["user"]]
    return cluster, user


def ssl_context(kubeconfig: Path) -> ssl.SSLContext:
    """Whom to trust, and who we are, by certificates of a kubeconfig's current context."""
    cluster, user = _current(kubeconfig)
    with tempfile.TemporaryDirectory() as folder:
        authority = _file(cluster, "certificate-authority", folder)
        context = ssl.create_default_context(cafile=None if authority is None else str(authority))
        certificate, key = _file(user, "client-certificate", folder), _file(user, "client-key", folder)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    return context


def _file(entry: Object, name: str, folder: str) -> Path | None:
    if f"{name}-data" in entry:
        path = Path(folder) / name
        path.write_bytes(base64.b64decode(entry[f"{name}-data"]))
        return path
    return Path(entry[name]) if name in entry else None


def collection(kind: str, namespace: str) -> str:
    """Path of all objects of one of our kinds."""
    place = f"/namespaces/{namespace}" if kind in NAMESPACED else ""
    return f"/apis/{API_VERSION}{place}/{PLURALS[kind]}"


def create(client: httpx.Client, manifest: Object, *, namespace: str, dry_run: bool = False) -> httpx.Response:
    """POST with strict field validation. A dry run is validated in the same way and not stored."""
    options = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
    return client.post(collection(manifest["kind"], namespace), json=manifest, params=options)


def replace(client: httpx.Client, manifest: Object, *, namespace: str, subresource: str = "") -> httpx.Response:
    path = f"{collection(manifest['kind'], namespace)}/{manifest['metadata']['name']}{subresource}"
    return client.put(path, json=manifest, params={"fieldValidation": "Strict"})
