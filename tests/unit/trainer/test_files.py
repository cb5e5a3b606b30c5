"""Folders that appear at once or not at all."""

from pathlib import Path

import pytest

from cycle_trainer.files import digest_of, folder_of_digest, publish, remove_leftovers, scratch_folder


def test_a_published_folder_has_its_name_and_content(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "out") as scratch:
        (scratch / "weights").write_bytes(b"abc")
        digest = digest_of(scratch / "weights")
        target = folder_of_digest(tmp_path / "out", digest)
        publish(scratch, target)
    assert digest == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [digest.replace(":", "-")]
    assert (target / "weights").read_bytes() == b"abc"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch_folder(tmp_path) as scratch:
        (scratch / "weights").write_bytes(b"abc")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "weights").write_bytes(b"old")
    with pytest.raises(OSError), scratch_folder(tmp_path) as scratch:
        (scratch / "weights").write_bytes(b"new")
        publish(scratch, tmp_path / "there")
    assert (tmp_path / "there" / "weights").read_bytes() == b"old"


def test_leftovers_of_a_killed_process_go(tmp_path: Path) -> None:
    (tmp_path / ".part-killed").mkdir()
    (tmp_path / ".part-killed" / "weights").write_bytes(b"half")
    (tmp_path / "step-00000010").mkdir()
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "not-there")
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010"]
