"""Runs a benchmark inside an image, as pods run: user 1000, this checkout read-only at /repo. Its output is live, and
what it writes to /out lands in this checkout's out/bench/."""

import subprocess
from collections.abc import Sequence

from tests.cluster.builders import Docker, choose_builder
from tests.cluster.images import build
from tests.cluster.paths import REPOSITORY, run

OUT = REPOSITORY / "out" / "bench"
# The operator's package is there for what it generates (HAProxy's configuration), the trainer's for how it makes
# variants; torch and server are the image's.
USER = ("--user", "1000:1000", "--env", "PYTHONPATH=/repo:/repo/operator:/repo/trainer_image")


def run_in_image(name: str, command: Sequence[str]) -> int:
    """Build the image unless it is there, run the command in it; returns its exit code."""
    builder = choose_builder(prefer_docker=False)
    reference = build(name, builder=builder)
    OUT.mkdir(parents=True, exist_ok=True)
    OUT.chmod(0o777)  # user 1000 writes there
    volumes = ("--volume", f"{REPOSITORY}:/repo:ro", "--volume", f"{OUT}:/out:rw")
    if isinstance(builder, Docker):
        tmpfs = ("--rm", "--tmpfs", "/tmp:exec,mode=1777")
        return _run(["docker", "run", *tmpfs, "--workdir", "/repo", *USER, *volumes, reference, *command])
    container = run(["buildah", "from", "--pull=never", reference]).strip()
    try:
        place = ("buildah", "run", "--runtime", "runc", "--workingdir", "/repo")
        return _run([*place, *USER, *volumes, container, "--", *command])
    finally:
        run(["buildah", "rm", container])


def _run(command: list[str]) -> int:
    return subprocess.run(command, check=False).returncode
