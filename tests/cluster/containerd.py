"""Talking to a cluster's containerd with `ctr`, from inside its namespaces or from the host."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from tests.cluster.configuration import CONTAINERD_SOCKET
from tests.cluster.paths import ClusterError, run

NAMESPACE = "k8s.io"
SNAPSHOTTER = "overlayfs"
IMAGE_NAME = "io.containerd.image.name"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


class Containerd:
    """One containerd's images, snapshots and containers."""

    def __init__(self, *, host_pid: int | None = None) -> None:
        """With `host_pid`, enter that process's mount namespace, where the socket is."""
        enter = ["nsenter", "--target", str(host_pid), "--mount"] if host_pid else []
        self._ctr = [*enter, "ctr", "--address", str(CONTAINERD_SOCKET), "--namespace", NAMESPACE]

    def command(self, *arguments: str) -> list[str]:
        """A whole `ctr` command line."""
        return [*self._ctr, *arguments]

    def answers(self) -> bool:
        """Whether the daemon takes requests, all its plugins loaded."""
        done = subprocess.run(self.command("version"), capture_output=True, check=False)
        return done.returncode == 0

    def images(self) -> set[str]:
        """Names of all images."""
        return set(run(self.command("images", "list", "--quiet")).split())

    def snapshots(self) -> set[str]:
        """Chain identifiers and container names that have a snapshot."""
        lines = run(self.command("snapshots", "--snapshotter", SNAPSHOTTER, "list")).splitlines()[1:]
        return {line.split()[0] for line in lines if line.strip()}

    def has_image(self, ref: str, *, chain_identifiers: Iterable[str]) -> bool:
        """Whether the image is known under the name and all its layers are unpacked."""
        return ref in self.images() and set(chain_identifiers) <= self.snapshots()

    def remove_containers(self) -> int:
        """End and remove all containers with their writable layers; returns how many there were."""
        names = run(self.command("containers", "list", "--quiet")).split()
        if not names:
            return 0
        tasks = run(self.command("tasks", "list", "--quiet")).split()
        if tasks:
            subprocess.run(self.command("tasks", "delete", "--force", *tasks), capture_output=True, check=False)
        run(self.command("containers", "delete", *names))
        return len(names)

    def remove_other_tags(self, ref: str) -> None:
        """Remove images of the same repository that no container uses; their layers go with them."""
        repository = ref.rpartition(":")[0]
        used = run(self.command("containers", "list"))
        for name in self.images():
            if name != ref and name.rpartition(":")[0] == repository and name not in used:
                run(self.command("images", "delete", name))

    def import_archive(self, pieces: Iterable[bytes]) -> None:
        """Stream an OCI archive, given in pieces, into the store and unpack it."""
        command = self.command("images", "import", "--snapshotter", SNAPSHOTTER, "-")
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            with suppress(BrokenPipeError):  # its exit code and message below say why
                for piece in pieces:
                    process.stdin.write(piece)
                process.stdin.close()
            output = process.stdout.read().decode(errors="replace")
        if process.returncode != 0:
            raise ClusterError(f"containerd did not import the image: {output.strip()}")

    def drop_blobs(self, digests: Iterable[str]) -> None:
        """Remove unpacked layers' archives: containers run from the snapshots alone."""
        present = set(run(self.command("content", "list", "--quiet")).split())
        unneeded = [digest for digest in digests if digest in present]
        if unneeded:
            run(self.command("content", "delete", *unneeded))


def single_file_image(ref: str, program: Path) -> bytes:
    """An OCI archive of an image whose only content and entry point is one static program."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        entry = tarfile.TarInfo(program.name)
        entry.mode, entry.size = 0o755, program.stat().st_size
        with program.open("rb") as source:
            archive.addfile(entry, source)
    configuration = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer.getvalue())]},
    }
    config = json.dumps(configuration).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(CONFIG_TYPE, config),
            "layers": [_descriptor(LAYER_TYPE, layer.getvalue())],
        }
    ).encode()
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, data in index_files(ref, manifest).items():
            _add(archive, name, data)
        for data in (manifest, config, layer.getvalue()):
            _add(archive, blob_path(_digest(data)), data)
    return output.getvalue()


def index_files(ref: str, manifest: bytes) -> dict[str, bytes]:
    """The two files that make a folder or tar of blobs an OCI layout with one named image."""
    descriptor = {**_descriptor(MANIFEST_TYPE, manifest), "annotations": {IMAGE_NAME: ref}}
    index = {"schemaVersion": 2, "manifests": [descriptor]}
    return {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode()}


def blob_path(digest: str) -> str:
    """Where an OCI layout keeps a blob."""
    return "blobs/" + digest.replace(":", "/", 1)


def _digest(data: bytes) -> str:
    return "sha256:" + sha256(data).hexdigest()


def _descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))
