"""A real HAProxy with real DNS and real HTTP pods: the balancer without a cluster."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from dnslib import QTYPE, RCODE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer
from multidict import CIMultiDict, CIMultiDictProxy

from cycleops.api.cycleservice import BalancingAlgorithm
from cycleops.service.haproxy import Balancer, render, render_pages
from tests.unit.service.doors import write_door

PODS_NAME = "supersense-pods.demo.svc.cluster.local"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PodNames(BaseResolver):  # type: ignore[misc]
    """Answers as a headless Service does: the addresses of the ready pods."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:  # noqa: ARG002 - dnslib's signature
        reply = request.reply()
        if not self.addresses:
            reply.header.rcode = RCODE.NXDOMAIN  # as the cluster's DNS says it
        if request.q.qtype == QTYPE.A and str(request.q.qname).rstrip(".") == PODS_NAME:
            for address in self.addresses:
                reply.add_answer(RR(PODS_NAME, QTYPE.A, rdata=A(address), ttl=1))
        return reply


@dataclass
class FakePod:
    """An HTTP server with a pod's readiness and a pod's answers, on an address of its own."""

    address: str
    port: int
    ready: bool = True
    delay_seconds: float = 0.0
    status: int = 200
    said: dict[str, str] = field(default_factory=dict)  # further headers of its answers
    dies: bool = False  # closes the connection instead of answering
    answered: int = 0
    bodies: list[bytes] = field(default_factory=list)
    headers: CIMultiDictProxy[str] = field(default_factory=lambda: CIMultiDictProxy(CIMultiDict()))
    runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/v2/health/ready", self._ready)
        app.router.add_post("/v2/models/m/infer", self._infer)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        await web.TCPSite(self.runner, self.address, self.port).start()

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.ready else 503)

    async def _infer(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        self.headers = request.headers
        await asyncio.sleep(self.delay_seconds)
        if self.dies and request.transport is not None:
            request.transport.abort()
        self.answered += 1
        headers = {"Server-Timing": "queue;dur=1.500, pre;dur=0.200", **self.said}
        return web.json_response({"pod": self.address}, status=self.status, headers=headers)


@dataclass
class Running:
    """HAProxy before two pods."""

    pods: list[FakePod]
    names: PodNames
    http_port: int
    admin_port: int
    process: subprocess.Popen[bytes]
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/v2/models/m/infer"

    async def ask(
        self, body: bytes = b"{}", headers: dict[str, str] | None = None
    ) -> tuple[int, str, CIMultiDictProxy[str]]:
        """Status, the pod that answered (empty: none), and the response's headers."""
        async with self.session.post(self.url, data=body, headers=headers) as response:
            pod = (await response.json())["pod"] if response.status == 200 else ""
            return response.status, pod, response.headers

    async def admin(self, path: str) -> tuple[int, str]:
        async with self.session.get(f"http://127.0.0.1:{self.admin_port}{path}") as response:
            return response.status, await response.text()

    async def until(self, condition: Callable[[int], bool], *, timeout_seconds: float = 10.0) -> int:
        """Waits until the number of servers that HAProxy says are up meets the condition."""
        up = -1
        for _ in range(int(timeout_seconds / 0.05)):
            lines = (await self.admin("/metrics"))[1].splitlines()
            up = sum(
                line.endswith(" 1")
                for line in lines
                if line.startswith('haproxy_server_status{proxy="pods"') and '"UP"' in line
            )
            if condition(up):
                return up
            await asyncio.sleep(0.05)
        raise AssertionError(f"HAProxy still says {up} pods are up")


@pytest.fixture
def names() -> Iterator[tuple[PodNames, int]]:
    resolver, port = PodNames(), free_port()
    server = DNSServer(resolver, address="127.0.0.1", port=port, logger=DNSLogger(log="-request,-reply"))
    server.start_thread()
    yield resolver, port
    server.server.shutdown()
    server.server.server_close()


@cache
def host_version() -> tuple[int, int]:
    """Of the host's HAProxy: 2.6 on Debian 12, while the balancer image has 3.0 of Debian 13."""
    said = subprocess.run(["haproxy", "-v"], capture_output=True, text=True, check=True).stdout
    major, minor = said.split("version ")[1].split(".")[:2]
    return int(major), int(minor)


def host_text(balancer: Balancer) -> str:
    """The configuration as the host's HAProxy takes it: ``hash-key`` came with 3.0."""
    text = render(balancer)
    return text if host_version() >= (3, 0) else text.replace(" hash-key addr", "")


def write_configuration(balancer: Balancer) -> Path:
    """haproxy.cfg with the files that it names, in its ``config_folder``."""
    folder = Path(balancer.config_folder)
    for name, text in render_pages(balancer).items():
        (folder / name).write_text(text)
    file = folder / "haproxy.cfg"
    file.write_text(host_text(balancer))
    return file


def start_haproxy(file: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["haproxy", "-db", "-f", str(file)], stdout=file.with_suffix(".log").open("wb"))


@pytest.fixture
async def running(
    request: pytest.FixtureRequest, tmp_path: Path, names: tuple[PodNames, int]
) -> AsyncIterator[Running]:
    """Parametrize indirectly with fields of Balancer, or ``tls`` and ``keys`` for its door."""
    changes: dict[str, Any] = dict(getattr(request, "param", {}))
    door = write_door(tmp_path, tls=changes.pop("tls", False), keys=changes.pop("keys", False))
    resolver, dns_port = names
    pod_port, http_port, admin_port = free_port(), free_port(), free_port()
    pods = [FakePod(address=f"127.0.1.{i}", port=pod_port) for i in (1, 2)]
    for pod in pods:
        await pod.start()
    resolver.addresses = [pod.address for pod in pods]
    settings: dict[str, Any] = {
        "algorithm": BalancingAlgorithm.LEAST_CONNECTIONS, "pods_name": PODS_NAME, "slots": 4,
        "budget_milliseconds": 300, "target_milliseconds": 300, "connections_per_pod": 64, "drain_seconds": 5,
        "config_folder": str(tmp_path), "nameservers": (f"127.0.0.1:{dns_port}",), "address": "127.0.0.1",
        "http_port": http_port, "admin_port": admin_port, "pod_port": pod_port, "door": door,
    }  # fmt: skip
    process = start_haproxy(write_configuration(Balancer(**settings | changes)))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        found = Running(pods, resolver, http_port, admin_port, process, session)
        try:
            for _ in range(100):
                await asyncio.sleep(0.05)
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", admin_port)) == 0:
                        break
            await found.until(lambda up: up == 2)
            yield found
        finally:
            process.kill()
            process.wait()
            for pod in pods:
                await pod.stop()
