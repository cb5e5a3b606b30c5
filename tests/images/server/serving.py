"""Starts the real server as a process, with the image's own Python (which isn't the one of the clients' tests)."""

import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from cycle_server.profiler.http import free_port
from cycle_wire.serving import ServerConfig
from tests.images.server.variants import DIGEST

START_SECONDS = 120.0


@dataclass(frozen=True)
class Reply:
    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Running:
    process: "subprocess.Popen[bytes]"
    port: int

    def call(self, path: str, body: object = None, *, headers: Mapping[str, str] | None = None) -> Reply:
        """``body`` is sent as JSON, bytes as they are; POST when there is one."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return _reply(answer.status, answer.read(), answer.headers)
        except urllib.error.HTTPError as error:
            return _reply(error.code, error.read(), error.headers)

    def infer(self, *texts: str, headers: Mapping[str, str] | None = None, **fields: Any) -> Reply:
        tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}
        return self.call("/v2/models/m/infer", {"inputs": [tensor], **fields}, headers=headers)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}"
            try:
                if self.call("/v2/health/ready").status == 200:
                    return
            except urllib.error.URLError:
                pass  # it doesn't listen yet
            time.sleep(0.05)
        raise AssertionError("the server was not ready in time")


def _reply(status: int, body: bytes, headers: Message) -> Reply:
    is_json = headers.get("Content-Type", "").startswith("application/json")
    content = json.loads(body) if is_json else body.decode()
    return Reply(status=status, body=content, headers=dict(headers.items()))


@contextmanager
def serving(
    folder: Path,
    *,
    wait: bool = True,
    module: str = "cycle_server.cli",
    env: Mapping[str, str] | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """``module`` is run with the arguments of the `cycle-server` command, ``env`` added to its environment."""
    defaults = {"model_name": "m", "model_digest": DIGEST, "variant": "v", "port": free_port(), "drain_seconds": 10}
    config = ServerConfig(variant_path=str(folder), **(defaults | settings))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "server.json"
        path.write_text(config.to_json(), encoding="utf-8")
        command = ["python", "-m", module, "serve", "--config", str(path)]
        process = subprocess.Popen(command, env={**os.environ, **(env or {})})
        running = Running(process=process, port=config.port)
        try:
            if wait:
                running.wait_until_ready()
            yield running
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
