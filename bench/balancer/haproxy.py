"""The operator's configuration of HAProxy, with pods at known addresses instead of a cluster's DNS name."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from cycleops.api.cycleservice import BalancingAlgorithm
from cycleops.service.haproxy import MAXIMUM_CONNECTIONS, Balancer, render, render_pages

PODS_NAME = "pods.bench"


def configuration(
    algorithm: BalancingAlgorithm,
    folder: Path,
    *,
    pods: Sequence[str],
    http_port: int,
    admin_port: int,
    budget_milliseconds: int = 2000,
    maximum_connections: int = MAXIMUM_CONNECTIONS,
    checked: bool = True,
) -> Path:
    """Written into ``folder``. ``pods``: ADDRESS:PORT of each; not ``checked``: they count as ready all the time."""
    balancer = Balancer(
        algorithm=algorithm, pods_name=PODS_NAME, slots=len(pods), budget_milliseconds=budget_milliseconds,
        target_milliseconds=50, connections_per_pod=256, drain_seconds=1, config_folder=str(folder),
        address="127.0.0.1", http_port=http_port, admin_port=admin_port,
    )  # fmt: skip
    servers = "\n".join(f"    server pod{i} {address}" for i, address in enumerate(pods, start=1))
    template = f"    server-template pod 1-{len(pods)} {PODS_NAME}:{balancer.pod_port}"
    text = render(balancer).replace(template, servers)
    text = text.replace(" resolvers cluster resolve-prefer ipv4 init-addr none", "")
    text = text.replace(f"maxconn {MAXIMUM_CONNECTIONS}", f"maxconn {maximum_connections}")
    if not checked:
        text = "\n".join(line for line in text.splitlines() if not line.strip().startswith("default-server")) + "\n"
    if "version 2." in subprocess.run(["haproxy", "-v"], capture_output=True, text=True, check=True).stdout:
        text = text.replace(" hash-key addr", "")  # came with 3.0; one balancer hashes as well without it
    for name, page in render_pages(balancer).items():
        (folder / name).write_text(page)
    file = folder / "haproxy.cfg"
    file.write_text(text)
    return file
