"""The checks of `make verify` that no ready-made tool does: chart, generated files, file sizes, hosts and paths.

Run as `python -m tests.verify`; prints what is wrong and exits 1.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.cluster.binaries import binary

ROOT = Path(__file__).parent.parent
CHART = ROOT / "charts/cycleops"
MAXIMUM_LINES = 300
CODE = {".py", ".go", ".sh", ".tpl"}
# Registries are the environment's business and paths of a developer's machine nobody's. The words are put together
# here so that this file does not find itself.
FORBIDDEN = re.compile("|".join([r"pypi\." + "org", r"proxy\.golang" + r"\.org", r"deb\.debian" + r"\.org",
                                 r"registry\.npmjs" + r"\.org", "/wo" + "rk/", "/root" + "/"]))  # fmt: skip


def tracked() -> list[Path]:
    """The files git tracks, and the new ones it does not ignore."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [path for line in listing.splitlines() if (path := ROOT / line).is_file()]


def long_files() -> Iterator[str]:
    for path in tracked():
        if path.suffix in CODE and "_pb2." not in path.name and (lines := path.read_text().count("\n")) > MAXIMUM_LINES:
            yield f"{path.relative_to(ROOT)} has {lines} lines; the house style has {MAXIMUM_LINES}: split it"


def hosts_and_paths() -> Iterator[str]:
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if found := FORBIDDEN.search(line):
                yield f"{path.relative_to(ROOT)}:{number} names {found.group()}: hosts and machine paths stay out"


def generated() -> Iterator[str]:
    reference = ["-m", "cycleops.api.reference", "--check", "docs/reference/api.md"]
    yield from failed("reference", [sys.executable, *reference])
    yield from failed("code of the .proto files", [sys.executable, "-m", "tests.protos", "--check"])


def chart() -> Iterator[str]:
    helm = str(binary("helm"))
    yield from failed("helm lint", [helm, "lint", "--strict", str(CHART)])
    yield from failed("helm template", [helm, "template", "cycleops", str(CHART), "--namespace", "cycleops-system"])


def workflow() -> Iterator[str]:
    yield from failed("actionlint", [str(binary("actionlint")), *map(str, (ROOT / ".github/workflows").glob("*.yaml"))])


def failed(name: str, command: list[str]) -> Iterator[str]:
    """The output of a command that exits non-zero."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        yield f"{name}:\n{done.stdout}{done.stderr}"


CHECKS: tuple[Callable[[], Iterator[str]], ...] = (long_files, hosts_and_paths, generated, chart, workflow)


def main() -> int:
    problems = 0
    for check in CHECKS:
        found = list(check())
        problems += len(found)
        print(f"verify: {check.__name__.replace('_', ' ')}: {'ok' if not found else f'{len(found)} problem(s)'}")
        for text in found:
            print(f"  {text}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
