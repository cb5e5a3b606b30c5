"""Getting built images into a cluster without moving a layer that is there already.

For the embedded cluster an image leaves buildah's store as an OCI layout (skopeo) and enters
containerd as a tar stream. A layer that containerd has unpacked is left out of both: skopeo takes a
blob that lies in the layout as copied, so a sparse file of the right size stands for it there.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.cluster.containerd import Containerd, blob_path, index_files
from tests.cluster.paths import cache_folder, run, timed

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Layers:
    """An image's layers in buildah's store, lowest first; chain identifiers are containerd's snapshot names."""

    digests: tuple[str, ...]
    sizes: tuple[int, ...]
    chain_identifiers: tuple[str, ...]


def chain_identifiers(diff_ids: Iterable[str]) -> tuple[str, ...]:
    """Names of stacked layers (OCI image specification, "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        text = f"{chain[-1]} {diff_id}" if chain else ""
        chain.append("sha256:" + sha256(text.encode()).hexdigest() if chain else diff_id)
    return tuple(chain)


def layers_of(ref: str) -> Layers:
    """Read an image's manifest and configuration from buildah's store."""
    source = f"containers-storage:{ref}"
    manifest: dict[str, Any] = json.loads(run(["skopeo", "inspect", "--raw", source]))
    configuration: dict[str, Any] = json.loads(run(["skopeo", "inspect", "--config", "--raw", source]))
    return Layers(
        digests=tuple(layer["digest"] for layer in manifest["layers"]),
        sizes=tuple(layer["size"] for layer in manifest["layers"]),
        chain_identifiers=chain_identifiers(configuration["rootfs"]["diff_ids"]),
    )


def load(daemon: Containerd, refs: Iterable[str]) -> None:
    """Bring images into a containerd; one that is complete there costs two questions."""
    for ref in refs:
        layers = layers_of(ref)
        if daemon.has_image(ref, chain_identifiers=layers.chain_identifiers):
            continue
        present = daemon.snapshots()
        missing = [name not in present for name in layers.chain_identifiers]
        size = sum(size for size, lacks in zip(layers.sizes, missing, strict=True) if lacks)
        with timed(f"loading {ref}: {sum(missing)} of {len(missing)} layers, {size / 1e6:.0f} MB"):
            _transfer(daemon, ref, layers=layers, missing=missing)
        daemon.remove_other_tags(ref)


def _transfer(daemon: Containerd, ref: str, *, layers: Layers, missing: list[bool]) -> None:
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=".export-") as scratch:
        layout = Path(scratch)
        left_out = [digest for digest, lacks in zip(layers.digests, missing, strict=True) if not lacks]
        for digest, size in zip(layers.digests, layers.sizes, strict=True):
            if digest in left_out:
                blob = layout / blob_path(digest)
                blob.parent.mkdir(parents=True, exist_ok=True)
                with blob.open("wb") as handle:
                    handle.truncate(size)
        target = f"oci:{layout}:image"
        run(["skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers", f"containers-storage:{ref}", target])
        daemon.import_archive(_archive(layout, ref=ref, left_out={blob_path(digest) for digest in left_out}))
    daemon.drop_blobs(layers.digests)


def _archive(layout: Path, *, ref: str, left_out: set[str]) -> Iterator[bytes]:
    """The layout as a tar in pieces, under the image's full name and without the layers left out."""
    index = json.loads((layout / "index.json").read_text())
    manifest = (layout / blob_path(index["manifests"][0]["digest"])).read_bytes()
    for name, data in index_files(ref, manifest).items():
        yield from _member(name, size=len(data), pieces=[data])
    for blob in sorted((layout / "blobs" / "sha256").iterdir()):
        name = str(blob.relative_to(layout))
        if name not in left_out:
            yield from _member(name, size=blob.stat().st_size, pieces=_pieces(blob))
    yield bytes(2 * tarfile.BLOCKSIZE)


def _member(name: str, *, size: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    yield entry.tobuf()
    yield from pieces
    yield bytes(-size % tarfile.BLOCKSIZE)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        while piece := source.read(PIECE_BYTES):
            yield piece
