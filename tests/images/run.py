"""Runs a command inside one of the project's images, as pods do: user 1000, this checkout read-only at /repo.

python -m tests.images.run trainer -- python -m pytest tests/images/trainer
"""

import subprocess
import sys
from collections.abc import Sequence

from tests.cluster.builders import Docker, choose_builder
from tests.cluster.images import build
from tests.cluster.paths import REPOSITORY, run

USER = "1000:1000"
# The installed packages are tested, not the checkout's; conftest.py of the host levels stays out.
PYTEST = ("-m", "pytest", "-o", "pythonpath=", "--confcutdir=/repo/tests/images", "-q")
PYTHON = {"clients": "/opt/clients/bin/python"}
INSIDE = "CYCLEOPS_INSIDE_IMAGE"


def pytest_in(image: str, *arguments: str) -> list[str]:
    """The command that runs tests in an image."""
    return [PYTHON.get(image, "python"), *PYTEST, *arguments]


def run_in_image(name: str, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Build the image unless it is there, run the command in it; output and errors together in ``stdout``."""
    builder = choose_builder(prefer_docker=False)
    reference = build(name, builder=builder)
    if isinstance(builder, Docker):
        return _output(
            [
                *("docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp:exec,mode=1777", "--tmpfs", "/home/cycle"),
                *("--user", USER, "--env", f"{INSIDE}=1", "--volume", f"{REPOSITORY}:/repo:ro", "--workdir", "/repo"),
                *(reference, *command),
            ]
        )
    container = run(["buildah", "from", "--pull=never", reference]).strip()
    try:
        return _output(
            [
                *("buildah", "run", "--runtime", "runc", "--user", USER, "--env", f"{INSIDE}=1"),
                *("--volume", f"{REPOSITORY}:/repo:ro", "--workingdir", "/repo", container, "--", *command),
            ]
        )
    finally:
        run(["buildah", "rm", container])


def _output(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def main() -> None:
    match sys.argv[1:]:
        case [name, "--", *command]:
            done = run_in_image(name, command)
            sys.stdout.write(done.stdout)
            sys.exit(done.returncode)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
