"""When a cluster counts as up, and the few objects that its own components need."""

from __future__ import annotations

import socket
import struct
import urllib.error

from tests.cluster.apiclient import ApiClient, Object

DNS_NAME = "kubernetes.default.svc.cluster.local"
DNS_SECONDS = 1.0
RBAC = "rbac.authorization.k8s.io"


def bootstrap_objects() -> list[tuple[str, Object]]:
    """(path, object): what CoreDNS may read, and that the API server may reach the kubelet."""
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    role: Object = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:coredns"},
        "rules": rules,
    }
    binding: Object = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "system:coredns"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "system:coredns"}],
    }
    prefix = f"/apis/{RBAC}/v1"
    return [(f"{prefix}/clusterroles", role), (f"{prefix}/clusterrolebindings", binding)]


def _found(client: ApiClient, path: str) -> Object | None:
    try:
        return client.get(path)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def has_default_service_account(client: ApiClient) -> bool:
    """Pods can be created in the namespace `default`, and their CA bundle is published."""
    prefix = "/api/v1/namespaces/default"
    account = _found(client, f"{prefix}/serviceaccounts/default")
    return account is not None and _found(client, f"{prefix}/configmaps/kube-root-ca.crt") is not None


def node_is_ready(client: ApiClient, name: str) -> bool:
    """The node's Ready condition is True and no taint keeps pods away."""
    node = _found(client, f"/api/v1/nodes/{name}")
    if node is None or node["spec"].get("taints"):
        return False
    conditions = node["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def dns_answers(address: str) -> bool:
    """Whether the server at the address knows the API server's name (one UDP query for an A record)."""
    question = b"".join(bytes([len(label)]) + label.encode() for label in DNS_NAME.split(".")) + b"\0"
    query = struct.pack(">HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0) + question + struct.pack(">HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(DNS_SECONDS)
        try:
            client.connect((address, 53))
            client.send(query)
            answer = client.recv(512)
        except OSError:  # nothing listens yet, or it is silent
            return False
    identifier, flags, _, answers = struct.unpack(">HHHH", answer[:8])
    return bool(identifier == 0x1234 and flags & 0x000F == 0 and answers > 0)
