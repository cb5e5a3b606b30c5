"""Which packages the CPU image leaves out of the lock file."""

import importlib.util
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
LOCK = """\
numpy==2.4.6 \\
    --hash=sha256:aa
    # via -r images.in
nvidia-cublas==13.4 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
    # via torch
nvidia-cuda-runtime==13.2 \\
    --hash=sha256:dd
torch==2.15.0 \\
    --hash=sha256:ee
triton==3.9.0 \\
    --hash=sha256:ff
cuda-bindings==13.5.0 \\
    --hash=sha256:gg
"""


def test_only_cuda_packages_are_dropped_with_their_hashes() -> None:
    spec = importlib.util.spec_from_file_location("cpu_only", REPOSITORY / "images/base/cpu_only.py")
    assert spec is not None and spec.loader is not None
    cpu_only = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cpu_only)
    kept = cpu_only.filter_lock(LOCK)
    assert [line.split("==")[0] for line in kept.splitlines() if "==" in line] == [
        "numpy",
        "nvidia-cuda-runtime",
        "torch",
    ]
    assert "sha256:bb" not in kept and "sha256:cc" not in kept and "sha256:dd" in kept and "sha256:ff" not in kept
