"""Names of stacked layers, and the tar that carries an image into containerd."""

from __future__ import annotations

import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.containerd import IMAGE_NAME, single_file_image
from tests.cluster.loading import chain_identifiers

DIGESTS = st.lists(st.binary(min_size=1).map(lambda data: "sha256:" + sha256(data).hexdigest()), max_size=6)


def test_chain_identifiers_are_those_of_the_specification() -> None:
    a, b = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    second = "sha256:" + sha256(f"{a} {b}".encode()).hexdigest()
    assert chain_identifiers([a, b]) == (a, second)


@given(DIGESTS, DIGESTS)
def test_images_on_the_same_base_share_its_names(base: list[str], above: list[str]) -> None:
    assert chain_identifiers([*base, *above])[: len(base)] == chain_identifiers(base)


def test_a_single_file_image_is_a_complete_layout(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"program")
    with tarfile.open(fileobj=io.BytesIO(single_file_image("localhost/pause:1", program))) as archive:
        content = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        data = {name: handle.read() for name, handle in content.items() if handle}
    for name, blob in data.items():
        if name.startswith("blobs/sha256/"):
            assert name.rpartition("/")[2] == sha256(blob).hexdigest()
    (entry,) = json.loads(data["index.json"])["manifests"]
    assert entry["annotations"][IMAGE_NAME] == "localhost/pause:1"
    manifest = json.loads(data["blobs/" + entry["digest"].replace(":", "/")])
    for part in [manifest["config"], *manifest["layers"]]:
        assert len(data["blobs/" + part["digest"].replace(":", "/")]) == part["size"]
