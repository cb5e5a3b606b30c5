"""Schemathesis makes good and bad requests from the server's own openapi.json; bounded in number, with a fixed seed."""

import os
import subprocess
import sys
from pathlib import Path

from cycle_wire.parts import Variant
from tests.images.clients.conftest import Generating, Served
from tests.images.server.image_variants import write_image_variant
from tests.images.server.serving import Running, serving

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
EXAMPLES = 100  # for each endpoint and phase
EXAMPLES_GENERATED = 30  # an answer takes as many steps as it has tokens
SEED = 1
EXAMPLES_OF_IMAGES = 30  # each is as many numbers as it has pixels
HOOKS = "tests.images.clients.schemathesis_hooks"


def test_it_finds_nothing_where_texts_are_classified(served: Served, tmp_path: Path) -> None:
    find_nothing(served.running, tmp_path, examples=EXAMPLES)


def test_it_finds_nothing_where_text_is_generated(generating: Generating, tmp_path: Path) -> None:
    find_nothing(generating.running, tmp_path, examples=EXAMPLES_GENERATED)


def test_it_finds_nothing_where_images_are_classified(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    write_image_variant(folder, family="convnext", variant=Variant(name="v"))
    with serving(folder, maximum_batch_size=4, budget_milliseconds=60_000) as running:
        find_nothing(running, tmp_path, examples=EXAMPLES_OF_IMAGES)


def find_nothing(running: Running, scratch: Path, *, examples: int) -> None:
    done = subprocess.run(
        [
            *(SCHEMATHESIS, "run", f"http://127.0.0.1:{running.port}/openapi.json"),
            *("--checks", "all", "--max-examples", str(examples), "--seed", str(SEED), "--no-color"),
        ],
        env={**os.environ, "SCHEMATHESIS_HOOKS": HOOKS, "HYPOTHESIS_STORAGE_DIRECTORY": str(scratch)},
        cwd="/repo",
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, "see its findings above"
    assert running.call("/v2/health/ready").status == 200
