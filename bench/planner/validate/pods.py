"""Pods (server and cache sidecar) on one core, HAProxy and the generator on the other. Inside the image."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientError, ClientSession

from bench.balancer.haproxy import configuration
from bench.serve.servers import start
from cycle_server.profiler.http import free_port
from cycle_server.protocol.v2 import infer_request
from cycle_wire.base import WireModel
from cycle_wire.serving import ServerConfig, SidecarConfig
from cycleops.api.cycleservice import BalancingAlgorithm

MODEL_NAME = "m"
START_SECONDS = 300.0
NEVER_SHED_MILLISECONDS = 60_000
BALANCER_CONNECTIONS = 256  # a container's usual limit is 1,024 open files
CACHE_BYTES = 256 << 20  # nothing that a scenario asks for goes
CACHE_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class Cores:
    """``pods``: all servers and sidecars; ``outside``: HAProxy and the generator."""

    pods: int
    outside: int

    @classmethod
    def found(cls) -> "Cores":
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise SystemExit("bench.planner --validate needs two cores: one for the pods, one for the generator")
        return cls(pods=cores[0], outside=cores[-1])


@dataclass(frozen=True, kw_only=True)
class Service:
    """``url``: of the balancer; ``groups``: process groups of all servers and sidecars, and the balancer."""

    url: str
    pod_urls: Sequence[str]
    groups: set[int]


@contextmanager
def service(
    folder: Path,
    scratch: Path,
    cores: Cores,
    *,
    digest: str,
    variant: str,
    replicas: int,
    maximum_batch_size: int,
    algorithm: BalancingAlgorithm,
    cached: bool,
) -> Iterator[Service]:
    """Processes are started, not awaited: see :func:`wait_until_ready`."""
    with ExitStack() as stack:
        groups, ports = set(), []
        for index in range(replicas):
            server = ServerConfig(
                model_name=MODEL_NAME,
                variant_path=str(folder),
                model_digest=digest,
                variant=variant,
                maximum_batch_size=maximum_batch_size,
                budget_milliseconds=NEVER_SHED_MILLISECONDS,
                threads=1,
                port=free_port(),
                drain_seconds=0,
            )
            sidecar = SidecarConfig(
                upstream=f"http://127.0.0.1:{server.port}",
                port=free_port(),
                model_digest=digest,
                variant=variant,
                size_bytes=CACHE_BYTES if cached else 0,
                ttl_seconds=CACHE_SECONDS,
                drain_seconds=0,
            )
            ports.append(sidecar.port)
            configs: tuple[tuple[str, WireModel], ...] = (("serve", server), ("sidecar", sidecar))
            for name, config in configs:
                arguments = command(name, config, scratch, index=index)
                groups.add(stack.enter_context(running(arguments, core=cores.pods)))
        http_port = free_port()
        file = configuration(
            algorithm, scratch, pods=[f"127.0.0.1:{port}" for port in ports], http_port=http_port,
            admin_port=free_port(), budget_milliseconds=NEVER_SHED_MILLISECONDS,
            maximum_connections=BALANCER_CONNECTIONS,
        )  # fmt: skip
        groups.add(stack.enter_context(running(["haproxy", "-q", "-db", "-f", str(file)], core=cores.outside)))
        yield Service(url=_url(http_port), pod_urls=[_url(port) for port in ports], groups=groups)


def command(name: str, config: WireModel, scratch: Path, *, index: int = 0) -> list[str]:
    """``name``: serve or sidecar. Its configuration is written into ``scratch``."""
    path = scratch / f"{name}{index}.json"
    path.write_text(config.to_json(), encoding="utf-8")
    return [sys.executable, "-m", "cycle_server.cli", name, "--config", str(path)]


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/v2/models/{MODEL_NAME}/infer"


@contextmanager
def running(arguments: Sequence[str], *, core: int) -> Iterator[int]:
    """The process and its children, killed at the end; its group."""
    process = start(arguments, core=core)
    try:
        yield process.pid
    finally:
        _kill(process)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


async def wait_until_ready(session: ClientSession, service: Service) -> None:
    """Until each pod and the balancer answer; the balancer knows all pods a check later. Raises RuntimeError."""
    deadline = time.monotonic() + START_SECONDS
    for url in [*service.pod_urls, service.url]:
        while not await _answers(session, url):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{url} does not answer after {START_SECONDS:g} s")
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.5)


async def _answers(session: ClientSession, url: str) -> bool:
    try:
        async with session.post(url, data=infer_request("is anybody there")) as response:
            await response.read()
            return response.status == 200
    except ClientError:
        return False
