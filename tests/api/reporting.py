"""How a pod reports: with a token that the API server made out to it, to the operator's own server."""

import ssl
from typing import Any

import httpx

from cycle_wire.reports import AUDIENCE
from tests.api.operator_process import OperatorProcess, authority

Body = dict[str, Any]


def token_of(client: httpx.Client, pod: Body, *, audience: str = AUDIENCE) -> str:
    """As the kubelet projects it: bound to the pod."""
    metadata = pod["metadata"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
    body = {"spec": {"audiences": [audience], "boundObjectRef": bound, "expirationSeconds": 3600}}
    path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/default/token"
    token: str = client.post(path, json=body).raise_for_status().json()["status"]["token"]
    return token


def post_report(client: httpx.Client, operator: OperatorProcess, content: str, *, token: str) -> httpx.Response:
    context = ssl.create_default_context(cadata=authority(client))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return httpx.post(
        operator.report_url, content=content, headers=headers, verify=context, trust_env=False, timeout=30
    )
