"""A real HAProxy that brings gRPC calls to a sidecar as a service's balancer does: HTTP/2 in, HTTP/1.1 out."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIGURATION = """
global
    maxconn 256
defaults
    mode http
    option abortonclose
    timeout connect 2s
    timeout client 60s
    timeout server 60s
frontend calls
    bind 127.0.0.1:{port} proto h2
    default_backend sidecar
backend sidecar
    server sidecar 127.0.0.1:{sidecar_port}
"""


@contextmanager
def calls_door(sidecar_port: int, *, prefix: tuple[str, ...] = ()) -> Iterator[int]:
    """Its port. ``prefix`` goes before the command, such as ``taskset``."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "haproxy.cfg"
        file.write_text(CONFIGURATION.format(port=port, sidecar_port=sidecar_port))
        process = subprocess.Popen([*prefix, "haproxy", "-db", "-f", str(file)])
        try:
            _wait_until_listening(port)
            yield port
        finally:
            process.kill()
            process.wait()


def _wait_until_listening(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("HAProxy does not listen")
