"""Debian base images made with mmdebstrap, for machines that no image registry reaches.

They carry the names that Docker Hub gives the same thing, so Dockerfiles need not know.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.cluster.buildenv import certificate_bundle, host_mirror
from tests.cluster.paths import cache_folder, content_hash, discard
from tests.cluster.progress import run_watched

BOOKWORM, TRIXIE = "bookworm", "trixie"
SUITES = (BOOKWORM, TRIXIE)
# Docker Hub's slim images leave these out too.
LEFT_OUT = ("/usr/share/man/*", "/usr/share/info/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/lintian/*")
KEPT = ("/usr/share/doc/*/copyright",)
ENVIRONMENT = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def reference(suite: str) -> str:
    """The name under which a suite's base image is known everywhere."""
    return f"docker.io/library/debian:{suite}-slim"


def root_archive(suite: str) -> Path:
    """A tar of a minimal root file system of the suite, made once and kept in the cache."""
    recipe = content_hash([suite, *LEFT_OUT, *KEPT])
    archive = cache_folder("debian") / f"{suite}-{recipe}.tar"
    if not archive.exists():
        _bootstrap(suite, archive=archive)
    return archive


def _bootstrap(suite: str, *, archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        sources = Path(scratch) / "debian.sources"
        sources.touch()
        output = Path(scratch) / "root.tar"
        bundle = certificate_bundle()
        trust = [f'--aptopt=Acquire::https::CaInfo "{bundle}"'] if bundle else []
        command: list[str | Path] = [
            "mmdebstrap", "--variant=minbase", "--include=ca-certificates", *trust,
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
            *(f"--dpkgopt=path-include={pattern}" for pattern in KEPT),
            # The mirror of this machine stays out of the image; builds mount its sources over an empty file.
            '--customize-hook=rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/apt.conf.d/99mmdebstrap',
            f"--customize-hook=copy-in {sources} /etc/apt/sources.list.d",
            suite, output, *host_mirror().apt_lines(suite),
        ]  # fmt: skip
        run_watched(command, log=cache_folder("log") / f"debian-{suite}.log", label=f"bootstrapping Debian {suite}")
        discard(archive)
        output.rename(archive)
