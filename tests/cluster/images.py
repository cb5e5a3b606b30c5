"""The project's images: which there are, what they are built from, and building only what changed.

An image's tag is a hash of all that goes into it, so "is it there?" is the whole question of
whether to build. Dockerfiles take their parent as `ARG BASE` and the repository root as context.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cache

from tests.cluster import debian
from tests.cluster.builders import Builder
from tests.cluster.dockerfile import content_tag
from tests.cluster.paths import REPOSITORY, ClusterError, cache_folder, file_lock, say


@dataclass(frozen=True, kw_only=True)
class Image:
    """A Dockerfile of this repository (paths relative to its root)."""

    name: str
    dockerfile: str
    parent: str
    suite: str = debian.BOOKWORM
    arguments: dict[str, str] = field(default_factory=dict)


IMAGES = (
    Image(name="base", dockerfile="images/base/Dockerfile", parent=debian.BOOKWORM),
    Image(name="trainer", dockerfile="trainer_image/Dockerfile", parent="base"),
    Image(name="server", dockerfile="server_image/Dockerfile", parent="base"),
    Image(name="balancer", dockerfile="images/balancer/Dockerfile", parent=debian.TRIXIE, suite=debian.TRIXIE),
    Image(name="cache", dockerfile="images/cache/Dockerfile", parent=debian.TRIXIE, suite=debian.TRIXIE),
    Image(name="operator", dockerfile="operator/Dockerfile", parent=debian.BOOKWORM),
    Image(name="demo-data", dockerfile="examples/demo_data/Dockerfile", parent="base"),
)
# Built when a test or a benchmark asks for them by name.
TEST_IMAGES = (
    Image(name="clients", dockerfile="tests/images/clients/Dockerfile", parent="server"),
    Image(name="bench", dockerfile="images/bench/Dockerfile", parent="server"),
    Image(name="bench-serve", dockerfile="images/bench-serve/Dockerfile", parent="bench"),
    Image(name="bench-train", dockerfile="images/bench-train/Dockerfile", parent="trainer"),
    Image(name="bench-compile", dockerfile="images/bench-compile/Dockerfile", parent="server"),
)
_BY_NAME = {image.name: image for image in (*IMAGES, *TEST_IMAGES)}
ALL_NAMES = tuple(image.name for image in IMAGES)
TESTED_NAMES = (*ALL_NAMES, "clients")  # all that `make test` needs
TAGS_KEPT = 2


def missing_dockerfile(name: str) -> str | None:
    """The first Dockerfile on the way from `name` to its Debian base that does not exist, if any."""
    while name in _BY_NAME:
        image = _BY_NAME[name]
        if not (REPOSITORY / image.dockerfile).is_file():
            return image.dockerfile
        name = image.parent
    return None


@cache
def reference(name: str) -> str:
    """`REPOSITORY:TAG` of an image as its sources are now (computed once per process)."""
    if name in debian.SUITES:
        return debian.reference(name)
    if name not in _BY_NAME:
        raise ClusterError(f"there is no image {name!r}; there are {', '.join([*_BY_NAME, *debian.SUITES])}")
    image = _BY_NAME[name]
    tag = content_tag(
        dockerfile=REPOSITORY / image.dockerfile,
        context=REPOSITORY,
        parent=reference(image.parent),
        extra=tuple(f"{key}={value}" for key, value in sorted(image.arguments.items())),
    )
    prefix = os.environ.get("CYCLEOPS_REGISTRY", "localhost").rstrip("/")
    return f"{prefix}/cycleops/{image.name}:{tag}"


def build(name: str, *, builder: Builder) -> str:
    """Build an image and its parents unless they are there already; returns its reference."""
    if name in debian.SUITES:
        return builder.ensure_debian(name)
    ref = reference(name)
    missing = missing_dockerfile(name)
    if missing:
        raise ClusterError(f"image {name} cannot be built: {missing} does not exist")
    image = _BY_NAME[name]
    parent = build(image.parent, builder=builder)
    with file_lock(cache_folder("locks") / f"image-{name}", what=f"build of image {name}"):
        if not builder.has(ref):
            builder.build(
                ref,
                dockerfile=REPOSITORY / image.dockerfile,
                context=REPOSITORY,
                suite=image.suite,
                arguments={"BASE": parent, **image.arguments},
                log=cache_folder("log") / f"image-{name}.log",
            )
            _remove_older(ref, builder=builder)
    return ref


def build_all(names: list[str], *, builder: Builder) -> dict[str, str]:
    """Build the named images, or with no names every image whose Dockerfiles exist; {name: reference}."""
    if names:
        return {name: build(name, builder=builder) for name in names}
    built = {}
    for name in ALL_NAMES:
        missing = missing_dockerfile(name)
        if missing:
            say(f"image {name}: skipped, {missing} does not exist yet")
        else:
            built[name] = build(name, builder=builder)
    return built


def _remove_older(ref: str, *, builder: Builder) -> None:
    """Keep the newest tags of an image; a tag that a child or a container still uses stays."""
    repository = ref.rpartition(":")[0]
    for old in builder.tags_newest_first(repository)[TAGS_KEPT:]:
        if old != ref and not builder.remove(old):
            say(f"{old} is still in use and stays")
