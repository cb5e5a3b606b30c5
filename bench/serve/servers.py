"""Starts the servers, on a core of their own, and holds all but the measured one still (SIGSTOP)."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.balancer.haproxy import configuration
from bench.serve.client import Client
from bench.serve.machine import on_core, processes_of
from cycle_server.profiler.http import free_port
from cycle_wire.serving import ServerConfig, SidecarConfig
from cycleops.api.cycleservice import BalancingAlgorithm

PEERS_PYTHON = "/opt/peers/bin/python"
MODEL_NAME = "m"
START_SECONDS = 90.0
MAXIMUM_BATCH_SIZE = 8
BALANCER_CONNECTIONS = 256
NEVER_SHED_MILLISECONDS = 60_000.0  # the client's header says how long it waits; a closed loop waits for good


@dataclass(frozen=True)
class Place:
    """What a server is started with."""

    folder: Path
    digest: str
    kind: str
    scratch: Path
    server_core: int
    client_core: int


@dataclass(frozen=True)
class Server:
    """A row of the table: ``hops`` that a request passes, and the process groups that stand behind ``port``."""

    name: str
    hops: str
    port: int
    groups: Sequence["subprocess.Popen[bytes]"] = field(repr=False)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        for process in self.groups:
            process.wait()

    def _signal(self, number: signal.Signals) -> None:
        for process in self.groups:
            if process.poll() is None:
                os.killpg(process.pid, number)

    async def wait_until_ready(self, body: bytes) -> None:
        """Until an infer request is answered. Raises RuntimeError when a process ends or the time does."""
        client, deadline = Client(self.port), time.monotonic() + START_SECONDS
        while not await client.is_ready(body):
            dead = [process.args for process in self.groups if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not answer" + (f", ended: {dead}" if dead else ""))
            await asyncio.sleep(0.1)

    def pids(self) -> list[int]:
        return processes_of({process.pid for process in self.groups})


def start(command: Sequence[str], *, core: int) -> "subprocess.Popen[bytes]":
    with on_core(core):
        return subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)


def start_ours(place: Place, *, cache_bytes: int = 0) -> list[Server]:
    """Three rows over the same server process: alone, behind the sidecar, and behind HAProxy too. 0 bytes: no cache.

    The sidecar shares the server's core, as in a pod; the balancer is another pod and runs on the client's core.
    """
    port, sidecar_port = free_port(), free_port()
    config = ServerConfig(
        model_name=MODEL_NAME,
        variant_path=str(place.folder),
        model_digest=place.digest,
        variant="bench",
        maximum_batch_size=MAXIMUM_BATCH_SIZE,
        budget_milliseconds=NEVER_SHED_MILLISECONDS,
        threads=1,
        port=port,
        drain_seconds=0,
    )
    sidecar = SidecarConfig(
        upstream=f"http://127.0.0.1:{port}",
        port=sidecar_port,
        model_digest=place.digest,
        variant="bench",
        size_bytes=cache_bytes,
        drain_seconds=0,
    )
    processes = []
    for name, settings in (("serve", config), ("sidecar", sidecar)):
        path = place.scratch / f"{name}.json"
        path.write_text(settings.to_json(), encoding="utf-8")
        command = [sys.executable, "-m", "cycle_server.cli", name, "--config", str(path)]
        processes.append(start(command, core=place.server_core))
    balancer_port, balancer = _start_balancer(place, pod_port=sidecar_port)
    return [
        Server("ours", "server", port, processes[:1]),
        Server("ours + sidecar", "sidecar, server", sidecar_port, processes),
        Server("ours + sidecar + balancer", "HAProxy, sidecar, server", balancer_port, [*processes, balancer]),
    ]


def _start_balancer(place: Place, *, pod_port: int) -> tuple[int, "subprocess.Popen[bytes]"]:
    """HAProxy with the product's configuration and fewer connections: a container's usual limit is 1,024 open files.
    Health checks are off, for a server that is stopped while others are measured would be marked down."""
    http_port = free_port()
    path = configuration(
        BalancingAlgorithm.LEAST_CONNECTIONS,
        place.scratch,
        pods=[f"127.0.0.1:{pod_port}"],
        http_port=http_port,
        admin_port=free_port(),
        budget_milliseconds=int(NEVER_SHED_MILLISECONDS),
        maximum_connections=BALANCER_CONNECTIONS,
        checked=False,
    )
    return http_port, start(["haproxy", "-f", str(path)], core=place.client_core)


def start_peers(place: Place) -> list[Server]:
    batch = ("--batch", str(MAXIMUM_BATCH_SIZE))
    rows: dict[str, tuple[str, ...]] = {
        "LitServe": ("lit", *batch),
        "KServe": ("kserving",),
        "FastAPI": ("bare",),
        "FastAPI, batching": ("bare", *batch),
    }
    servers = []
    for name, (module, *arguments) in rows.items():
        port = free_port()
        command = [PEERS_PYTHON, "-m", f"bench.serve.peers.{module}", "--folder", str(place.folder)]
        command += ["--port", str(port), "--kind", place.kind, *arguments]
        servers.append(Server(name, "server", port, [start(command, core=place.server_core)]))
    return servers
