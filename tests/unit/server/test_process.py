"""The sidecar as a process: its exit codes, its drain, and that it stays small."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cycle_server.process import peak_resident_bytes
from cycle_wire.reports import EXIT_BAD_INPUT
from cycle_wire.serving import SidecarConfig

REPOSITORY = Path(__file__).parents[3]
LARGEST_SIDECAR_BYTES = 100 * 2**20


def start(*arguments: str) -> "subprocess.Popen[str]":
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("server_image", "wire"))
    return subprocess.Popen(
        [sys.executable, "-m", "cycle_server.cli", *arguments],
        env=os.environ | {"PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def test_a_missing_configuration_is_bad_input(tmp_path: Path) -> None:
    process = start("sidecar", "--config", str(tmp_path / "none.json"))
    _, errors = process.communicate(timeout=30)
    assert process.returncode == EXIT_BAD_INPUT
    assert "none.json: No such file" in errors


def test_a_wrong_field_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"modelDigest": "sha256:" + "a" * 64, "variant": "v", "sizeBytes": -1}))
    process = start("sidecar", "--config", str(tmp_path / "c.json"))
    _, errors = process.communicate(timeout=30)
    assert process.returncode == EXIT_BAD_INPUT
    assert "sizeBytes" in errors


def test_sigterm_drains_and_exits_with_0_and_the_process_is_small(tmp_path: Path) -> None:
    port = free_port()
    upstream = f"http://127.0.0.1:{free_port()}"
    config = SidecarConfig(
        upstream=upstream, port=port, model_digest="sha256:" + "a" * 64, variant="v", drain_seconds=1
    )
    (tmp_path / "c.json").write_text(config.to_json())
    process = start("sidecar", "--config", str(tmp_path / "c.json"))
    try:
        wait_until_listening(port)
        assert peak_resident_bytes(process.pid) < LARGEST_SIDECAR_BYTES
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(urllib.error.HTTPError, match="503"):  # draining: it answers, and isn't ready
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.communicate()


def wait_until_listening(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")
