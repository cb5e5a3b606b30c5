"""Which kind of cluster: start one, or find the one that an earlier command left running.

KUBECONFIG set: that cluster. A Docker engine and kind: kind. Else: the embedded cluster.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from tests.cluster import embedded
from tests.cluster.builders import docker_works
from tests.cluster.clusters import Cluster, EmbeddedCluster, ExistingCluster, KindCluster
from tests.cluster.keeper import State
from tests.cluster.paths import REPOSITORY, ClusterError, discard, work_folder
from tests.cluster.settings import Settings

LOG_LINES = 25


def start_cluster(*, detached: bool = False) -> Cluster:
    """A cluster of the kind that this machine and environment call for.

    Detached, it is the one that this checkout has up already, or a new one that outlives this process
    until `stop_running`. Otherwise it is new and ends with this process. Raises ClusterError.
    """
    configured = os.environ.get("KUBECONFIG")
    ours = running_cluster()
    if configured:
        return _configured(Path(configured).expanduser(), ours=ours)
    if detached and ours:
        return ours
    cluster = _start(detached=detached)
    if detached:
        _remember(cluster)
    return cluster


def _configured(path: Path, *, ours: Cluster | None) -> Cluster:
    """KUBECONFIG's cluster; it may be the embedded one that is up here, which takes images directly."""
    if not path.is_file():
        raise ClusterError(f"KUBECONFIG is {path}, which is not a file; unset it for a cluster of our own")
    if isinstance(ours, EmbeddedCluster) and ours.kubeconfig == path:
        return replace(ours, owned=False)
    return ExistingCluster(path)


def _start(*, detached: bool) -> Cluster:
    if shutil.which("kind") and docker_works():
        cluster = KindCluster()
        cluster.create()
        return cluster
    return EmbeddedCluster(embedded.start(full=True, detach=detached))


def start_api_only() -> EmbeddedCluster:
    """etcd, API server and controller manager: no node, so objects are real and pods never run."""
    return EmbeddedCluster(embedded.start(full=False))


def log_tails(cluster: Cluster, *, lines: int = LOG_LINES) -> str:
    """The end of every component's log, for the report of a failed test."""
    folder = cluster.logs
    if folder is None:
        return "(the logs of this cluster are not ours to read)"
    parts = []
    for path in sorted(folder.glob("*.log")):
        if path.name != "audit.log":
            last = subprocess.run(["tail", "-n", str(lines), path], capture_output=True, text=True, check=True).stdout
            parts.append(f"--- {path.relative_to(REPOSITORY)}\n{last}")
    return "\n".join(parts)


def _remember(cluster: Cluster) -> None:
    """Note a cluster that outlives this process, for `down`, `status` and `env`."""
    record = {"kind": cluster.kind, "kubeconfig": str(cluster.kubeconfig)}
    if isinstance(cluster, EmbeddedCluster):
        record["settings"] = cluster.running.settings.to_json()
    _record().parent.mkdir(parents=True, exist_ok=True)
    _record().write_text(json.dumps(record))


def _record() -> Path:
    return work_folder("up.json")


def running_cluster() -> Cluster | None:
    """The cluster that an earlier command left running in this checkout, if it still runs."""
    if not _record().exists():
        return None
    record = json.loads(_record().read_text())
    if record["kind"] == "embedded":
        settings = Settings.from_json(record["settings"])
        state = State.read(settings.work)
        cluster = embedded.Embedded(settings, state) if state else None
        return EmbeddedCluster(cluster) if cluster and cluster.is_running() else None
    return KindCluster() if record["kind"] == "kind" else ExistingCluster(Path(record["kubeconfig"]))


def stop_running() -> Cluster | None:
    """Stop and forget that cluster; None when there was none."""
    cluster = running_cluster()
    if cluster is not None:
        cluster.stop()
    discard(_record())
    return cluster
