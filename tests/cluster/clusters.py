"""The kinds of cluster behind one small interface: embedded, kind, and one that exists already."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.cluster import embedded, images, loading
from tests.cluster.builders import Builder, choose_builder
from tests.cluster.containerd import Containerd
from tests.cluster.paths import discard, run, say, work_folder

KIND_NAME = "cycleops"


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

    def load_images(self, *names: str) -> dict[str, str]:
        """Build what changed of the named images (none: all), bring it into the cluster; {name: reference}."""

    def stop(self) -> None:
        """Remove what start() made."""


@dataclass(frozen=True)
class EmbeddedCluster:
    """The cluster of embedded.py."""

    running: embedded.Embedded
    kind: str = "embedded"
    owned: bool = True

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
        """Gone with the cluster."""
        return self.running.settings.runtime / "images.json"

    def load_images(self, *names: str) -> dict[str, str]:
        """Build with buildah and load into the cluster's containerd."""
        built = images.build_all(list(names), builder=choose_builder(prefer_docker=False))
        loading.load(Containerd(host_pid=self.running.state.supervisor_pid), built.values())
        return _remember(self.images_file, built)

    def stop(self) -> None:
        """Stop it, unless another command started it; nothing is left but logs and caches."""
        if self.owned:
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

    def load_images(self, *names: str) -> dict[str, str]:
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

    def load_images(self, *names: str) -> dict[str, str]:
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
