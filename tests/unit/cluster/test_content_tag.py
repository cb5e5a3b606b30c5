"""An image's tag follows everything that goes into the image, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.dockerfile import content_tag, copied_files
from tests.cluster.paths import ClusterError

DOCKERFILE = """\
ARG BASE
FROM ${BASE} AS first
COPY --chown=1000:1000 code/ \\
    /srv/code
# COPY unused.txt /x
COPY ["settings.json", "/srv/"]
FROM ${BASE}
COPY --from=first /srv /srv
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name in ("code/a.py", "code/deep/b.py", "code/__pycache__/a.pyc", "settings.json", "unused.txt", "out/big"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / ".dockerignore").write_text("# comment\n**/__pycache__\nout\n")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    return tmp_path


def tag(context: Path, *, parent: str = "base:1", extra: tuple[str, ...] = ()) -> str:
    return content_tag(dockerfile=context / "Dockerfile", context=context, parent=parent, extra=extra)


def test_it_sees_what_is_copied_and_not_what_is_ignored(context: Path) -> None:
    names = [str(path.relative_to(context)) for path in copied_files(DOCKERFILE, context=context)]
    assert names == ["code/a.py", "code/deep/b.py", "settings.json"]


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda context: (context / name).write_text(text)


@pytest.mark.parametrize(
    "change",
    [
        write("code/deep/b.py", "changed"),
        write("code/new.py", ""),
        write("settings.json", "changed"),
        write("Dockerfile", DOCKERFILE + "RUN true\n"),
        lambda context: (context / "code/a.py").chmod(0o755),
        lambda context: (context / "code/a.py").rename(context / "code/c.py"),
    ],
)
def test_a_change_of_what_goes_in_changes_the_tag(context: Path, change: Callable[[Path], object]) -> None:
    before = tag(context)
    change(context)
    assert tag(context) != before


@pytest.mark.parametrize(
    "change", [write("unused.txt", "changed"), write("out/big", "changed"), write("code/__pycache__/a.pyc", "changed")]
)
def test_a_change_elsewhere_keeps_the_tag(context: Path, change: Callable[[Path], object]) -> None:
    before = tag(context)
    change(context)
    assert tag(context) == before


def test_parent_and_arguments_are_part_of_it(context: Path) -> None:
    assert len({tag(context), tag(context, parent="base:2"), tag(context, extra=("A=1",))}) == 3


@pytest.mark.parametrize("line", ["COPY nothing.txt /x", "COPY ${NAME} /x"])
def test_a_source_that_cannot_be_followed_is_said(context: Path, line: str) -> None:
    with pytest.raises(ClusterError, match="COPY|copies"):
        copied_files(f"FROM x\n{line}\n", context=context)
