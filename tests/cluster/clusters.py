"""The kinds of cluster behind one small interface, and the choice among them.

KUBECONFIG set: that cluster. A Docker engine and kind: kind. Else: the embedded cluster.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.cluster import binaries, embedded, images, loading
from tests.cluster.builders import Builder, choose_builder, docker_works
from tests.cluster.containerd import Containerd
from tests.cluster.keeper import State
from tests.cluster.paths import REPOSITORY, ClusterError, discard, run, say, work_folder
from tests.cluster.settings import Settings

KIND_NAME = "cycleops"
LOG_LINES = 25


class Cluster(Protocol):
    """A cluster that is up."""

    @property
    def kind(self) -> str:
        """`embedded`, `kind` or `existing`."""

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig."""

    @property
    def logs(self) -> Path | None:
        """The folder with the components' logs, where there is one."""

    @property
    def images_file(self) -> Path:
        """JSON {name: reference} of the images that were loaded."""

    def load_images(self, names: Iterable[str]) -> dict[str, str]:
        """Build what changed of the named images (none: all), bring it into the cluster; {name: reference}."""

    def stop(self) -> None:
        """Remove what start() made."""


@dataclass(frozen=True)
class EmbeddedCluster:
    """The cluster of embedded.py."""

    running: embedded.Embedded
    kind: str = "embedded"

    @property
    def kubeconfig(self) -> Path:
        """Valid as long as the cluster runs."""
        return self.running.settings.kubeconfig

    @property
    def logs(self) -> Path | None:
        """Kept until the next cluster in this slot."""
        return self.running.settings.logs

    @property
    def images_file(self) -> Path:
        """Beside the state in the work folder."""
        return self.running.settings.work / "images.json"

    def load_images(self, names: Iterable[str]) -> dict[str, str]:
        """Build with buildah and load into the cluster's containerd."""
        built = images.build_all(list(names), builder=choose_builder(prefer_docker=False))
        loading.load(Containerd(host_pid=self.running.state.supervisor_pid), built.values())
        return _remember(self.images_file, built)

    def stop(self) -> None:
        """Stop it; nothing is left but logs and caches."""
        self.running.stop()


@dataclass(frozen=True)
class KindCluster:
    """A cluster made by kind on a Docker engine."""

    name: str = KIND_NAME
    kind: str = "kind"

    @property
    def _folder(self) -> Path:
        return work_folder("kind")

    @property
    def kubeconfig(self) -> Path:
        """Written by kind."""
        return self._folder / "kubeconfig"

    @property
    def logs(self) -> Path | None:
        """Exported from the node now."""
        folder = self._folder / "log"
        run(["kind", "export", "logs", "--name", self.name, folder])
        return folder

    @property
    def images_file(self) -> Path:
        """Beside the kubeconfig."""
        return self._folder / "images.json"

    def create(self) -> None:
        """Create it unless it exists."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self.name not in run(["kind", "get", "clusters"]).split():
            run(["kind", "create", "cluster", "--name", self.name, "--kubeconfig", self.kubeconfig, "--wait", "120s"])
        run(["kind", "export", "kubeconfig", "--name", self.name, "--kubeconfig", self.kubeconfig])

    def load_images(self, names: Iterable[str]) -> dict[str, str]:
        """Build with Docker and load an archive of each image that the node lacks."""
        builder = choose_builder(prefer_docker=True)
        built = images.build_all(list(names), builder=builder)
        have = run(["docker", "exec", f"{self.name}-control-plane", "crictl", "images", "--output", "json"])
        known = {tag for image in json.loads(have)["images"] for tag in image.get("repoTags", [])}
        for name, ref in built.items():
            if ref not in known:
                archive = self._folder / f"{name}.tar"
                builder.archive(ref, target=archive)
                run(["kind", "load", "image-archive", archive, "--name", self.name])
                discard(archive)
        return _remember(self.images_file, built)

    def stop(self) -> None:
        """Delete the cluster."""
        run(["kind", "delete", "cluster", "--name", self.name])


@dataclass(frozen=True)
class ExistingCluster:
    """The cluster of KUBECONFIG: never stopped, and images reach it through a registry or by hand."""

    kubeconfig: Path
    kind: str = "existing"

    @property
    def logs(self) -> Path | None:
        """Not ours to read."""
        return None

    @property
    def images_file(self) -> Path:
        """In this checkout's work folder."""
        return work_folder("existing") / "images.json"

    def load_images(self, names: Iterable[str]) -> dict[str, str]:
        """Push to ${CYCLEOPS_REGISTRY}; without it write archives and say where they are."""
        builder = choose_builder(prefer_docker=True)
        built = images.build_all(list(names), builder=builder)
        self._hand_over(built, builder)
        return _remember(self.images_file, built)

    def _hand_over(self, built: dict[str, str], builder: Builder) -> None:
        registry = os.environ.get("CYCLEOPS_REGISTRY")
        for name, ref in built.items():
            if registry and ref.startswith(registry):
                builder.push(ref)
                continue
            archive = work_folder("existing") / f"{name}-{ref.rpartition(':')[2]}.tar"
            if not archive.exists():
                archive.parent.mkdir(parents=True, exist_ok=True)
                builder.archive(ref, target=archive)
            say(f"load {archive} ({ref}) on every node, or set CYCLEOPS_REGISTRY to push")

    def stop(self) -> None:
        """It isn't ours."""


def _remember(path: Path, built: dict[str, str]) -> dict[str, str]:
    """Merge into the file; returns what was built now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **built}, indent=1, sort_keys=True) + "\n")
    return built


def start(*, detach: bool = False) -> Cluster:
    """Start, or connect to, the kind of cluster that this machine and environment call for."""
    configured = os.environ.get("KUBECONFIG")
    if configured:
        path = Path(configured).expanduser()
        if not path.is_file():
            raise ClusterError(f"KUBECONFIG is {configured}, which is not a file; unset it for a cluster of our own")
        return ExistingCluster(path)
    if shutil.which("kind") and docker_works():
        cluster = KindCluster()
        cluster.create()
        return cluster
    return EmbeddedCluster(embedded.start(full=True, detach=detach))


def start_api_only() -> EmbeddedCluster:
    """etcd, API server and controller manager: no node, so objects are real and pods never run."""
    return EmbeddedCluster(embedded.start(full=False))


def tools_path() -> Path:
    """A folder with kubectl and helm (and, where they are built, the rest)."""
    return binaries.build_all()


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


def remember_running(cluster: Cluster) -> None:
    """Note the cluster that `up` leaves running, for `down`, `status` and `env`."""
    record = {"kind": cluster.kind, "kubeconfig": str(cluster.kubeconfig)}
    if isinstance(cluster, EmbeddedCluster):
        record["settings"] = cluster.running.settings.to_json()
    _record().parent.mkdir(parents=True, exist_ok=True)
    _record().write_text(json.dumps(record))


def _record() -> Path:
    return work_folder("up.json")


def running() -> Cluster | None:
    """The cluster that `up` left running in this checkout, if it still runs."""
    if not _record().exists():
        return None
    record = json.loads(_record().read_text())
    if record["kind"] == "embedded":
        settings = Settings.from_json(record["settings"])
        state = State.read(settings.work)
        cluster = embedded.Embedded(settings, state) if state else None
        return EmbeddedCluster(cluster) if cluster and cluster.is_running() else None
    return KindCluster() if record["kind"] == "kind" else ExistingCluster(Path(record["kubeconfig"]))


def forget_running() -> None:
    """After `down`."""
    discard(_record())
