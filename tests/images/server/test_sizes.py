"""A warm engine makes no kernels any more: they are what memory grew by, request for request of another length."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cycle_wire.parts import Precision, Quantization, Variant
from tests.images.server.causal_variants import write_causal
from tests.images.server.every_size import WARM
from tests.images.server.variants import write_variant

MADE = "primitive,create:cache_miss,"  # of oneDNN's log: a kernel that it didn't have
VARIANTS = {
    "float32": Variant(name="v"),
    "bfloat16": Variant(name="v", precision=Precision.BFLOAT16),
    "int8": Variant(name="v", quantization=Quantization()),
}


@pytest.mark.parametrize("write", [write_variant, write_causal])
@pytest.mark.parametrize("name", VARIANTS)
def test_no_length_needs_a_new_kernel(name: str, write: Callable[..., Any], tmp_path: Path) -> None:
    write(tmp_path / "v", variant=VARIANTS[name])
    done = subprocess.run(
        ["python", "-m", "tests.images.server.every_size", str(tmp_path / "v")],
        env={**os.environ, "ONEDNN_VERBOSE": "profile_create"},
        capture_output=True,
        text=True,
        check=True,
    )
    before, warm, after = done.stdout.partition(WARM)
    assert warm
    if name == "float32" and torch.backends.mkldnn.is_available():
        assert MADE in before, "else this test sees nothing"
    assert [line for line in after.splitlines() if MADE in line] == []
