"""Schemathesis makes good and bad requests from the server's own openapi.json; bounded in number, with a fixed seed."""

import os
import subprocess
import sys
from pathlib import Path

from tests.images.clients.conftest import Served

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
EXAMPLES = 100  # for each endpoint and phase
HOOKS = "tests.images.clients.schemathesis_hooks"


def test_it_finds_nothing(served: Served, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(SCHEMATHESIS, "run", f"http://{served.url}/openapi.json"),
            *("--checks", "all", "--max-examples", str(EXAMPLES), "--seed", "1", "--no-color"),
        ],
        env={**os.environ, "SCHEMATHESIS_HOOKS": HOOKS, "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)},
        cwd="/repo",
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, "see its findings above"
    assert served.running.call("/v2/health/ready").status == 200
