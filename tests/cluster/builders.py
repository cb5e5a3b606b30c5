"""The two tools that turn a Dockerfile into an image: buildah, and a Docker engine where one works."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tests.cluster import debian
from tests.cluster.buildenv import build_mounts
from tests.cluster.paths import ClusterError, cache_folder, discard, file_lock, run
from tests.cluster.progress import run_watched


class Builder(Protocol):
    """What images.py needs of a build tool."""

    def has(self, ref: str) -> bool:
        """Whether the image is in the tool's store."""

    def ensure_debian(self, suite: str) -> str:
        """Make sure that a suite's base image is in the store; returns its reference."""

    def build(
        self, ref: str, *, dockerfile: Path, context: Path, suite: str, arguments: Mapping[str, str], log: Path
    ) -> None:
        """Build one Dockerfile into the store under `ref`."""

    def tags_newest_first(self, repository: str) -> list[str]:
        """References of all tags of a repository in the store."""

    def remove(self, ref: str) -> bool:
        """Remove a reference; False when it is in use."""

    def archive(self, ref: str, *, target: Path) -> None:
        """Write the image as a docker-archive tar."""

    def push(self, ref: str) -> None:
        """Push the image to the registry in its name."""


class Buildah:
    """Builds without an engine, as root, with runc; images live in containers-storage."""

    def has(self, ref: str) -> bool:
        """Whether the image is in the store."""
        done = subprocess.run(["buildah", "inspect", "--type", "image", ref], capture_output=True, check=False)
        return done.returncode == 0

    def ensure_debian(self, suite: str) -> str:
        """Bootstrap the suite unless its image is there."""
        ref = debian.reference(suite)
        with file_lock(cache_folder("locks") / f"debian-{suite}", what=f"bootstrap of Debian {suite}"):
            if not self.has(ref):
                archive = debian.root_archive(suite)
                container = run(["buildah", "from", "scratch"]).strip()
                try:
                    run(["buildah", "add", "--quiet", container, archive, "/"])
                    run(["buildah", "config", "--cmd", "bash", "--env", debian.ENVIRONMENT, container])
                    run(["buildah", "commit", "--quiet", container, ref])
                finally:
                    run(["buildah", "rm", container])
                discard(archive)
        return ref

    def build(
        self, ref: str, *, dockerfile: Path, context: Path, suite: str, arguments: Mapping[str, str], log: Path
    ) -> None:
        """Build with a layer cache; the mounts give it this machine's mirrors and leave nothing behind."""
        command: list[str | Path] = ["buildah", "build", "--layers", "--pull=never", "--network", "host"]
        command += ["--runtime", shutil.which("runc") or "runc", "--file", dockerfile, "--tag", ref]
        for mount in build_mounts(suite):
            command += ["--volume", mount]
        for key, value in arguments.items():
            command += ["--build-arg", f"{key}={value}"]
        run_watched([*command, context], log=log, label=f"building image {ref}")

    def tags_newest_first(self, repository: str) -> list[str]:
        """As buildah lists them: newest first."""
        done = run(["buildah", "images", "--format", "{{.Name}}:{{.Tag}}"])
        return [line for line in done.split() if line.rpartition(":")[0] == repository]

    def remove(self, ref: str) -> bool:
        """Untag it; its layers go when nothing else uses them."""
        return subprocess.run(["buildah", "rmi", ref], capture_output=True, check=False).returncode == 0

    def archive(self, ref: str, *, target: Path) -> None:
        """Write a docker-archive with skopeo."""
        discard(target)
        run(["skopeo", "copy", "--quiet", f"containers-storage:{ref}", f"docker-archive:{target}:{ref}"])

    def push(self, ref: str) -> None:
        """Push with skopeo, which uses the login of `skopeo login`."""
        run(["skopeo", "copy", "--quiet", f"containers-storage:{ref}", f"docker://{ref}"])


class Docker:
    """The thin path for machines with an engine: it has its own registry access, mirrors and caches."""

    def has(self, ref: str) -> bool:
        """Whether the engine knows the image."""
        done = subprocess.run(["docker", "image", "inspect", ref], capture_output=True, check=False)
        return done.returncode == 0

    def ensure_debian(self, suite: str) -> str:
        """Pull the suite's slim image once."""
        ref = debian.reference(suite)
        if not self.has(ref):
            run(["docker", "pull", "--quiet", ref])
        return ref

    def build(
        self, ref: str, *, dockerfile: Path, context: Path, suite: str, arguments: Mapping[str, str], log: Path
    ) -> None:
        """Build with the engine's own cache (the suite needs no mirror of ours here)."""
        command: list[str | Path] = ["docker", "build", "--file", dockerfile, "--tag", ref]
        for key, value in arguments.items():
            command += ["--build-arg", f"{key}={value}"]
        run_watched([*command, context], log=log, label=f"building image {ref} ({suite})")

    def tags_newest_first(self, repository: str) -> list[str]:
        """As Docker lists them: newest first."""
        return run(["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository]).split()

    def remove(self, ref: str) -> bool:
        """Untag it."""
        return subprocess.run(["docker", "image", "rm", ref], capture_output=True, check=False).returncode == 0

    def archive(self, ref: str, *, target: Path) -> None:
        """Write what `kind load image-archive` reads."""
        run(["docker", "save", "--output", target, ref])

    def push(self, ref: str) -> None:
        """Push with the engine's login."""
        run(["docker", "push", "--quiet", ref])


def docker_works() -> bool:
    """Whether a Docker engine answers (a client alone is not enough)."""
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def choose_builder(*, prefer_docker: bool) -> Builder:
    """Docker where it is preferred and works, else buildah."""
    if prefer_docker and docker_works():
        return Docker()
    if shutil.which("buildah") and shutil.which("skopeo"):
        return Buildah()
    if docker_works():
        return Docker()
    raise ClusterError("neither buildah with skopeo nor a Docker engine is here; run `python -m tests.cluster host`")
