"""gRPC through a real HAProxy before real sidecars: calls are balanced, measured, let in and never lost."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from cycle_server.protocol import open_inference_pb2 as messages
from cycle_server.protocol.grpc_status import SERVICE
from cycle_server.protocol.timing import parse_timing
from cycleops.api.cycleservice import BalancingAlgorithm
from cycleops.service.haproxy import Balancer
from tests.unit.service.conftest import PODS_NAME, PodNames, free_port, start_haproxy, write_configuration
from tests.unit.service.doors import write_door

ADDRESSES = ("127.0.2.1", "127.0.2.2")
ROOT = Path(__file__).parents[3]


@dataclass
class World:
    folder: Path
    names: PodNames
    balancer: Balancer
    haproxy: "subprocess.Popen[bytes]"
    pods: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    channel: grpc.aio.Channel | None = None

    async def call(self, method: str, request: Any, **options: Any) -> tuple[Any, dict[str, str]]:
        """The answer and the metadata that it began with."""
        assert self.channel is not None
        answer = getattr(messages, f"{method}Response")
        ask = self.channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        call = ask(request, **{"timeout": 10, **options})
        return await call, dict(await call.initial_metadata())

    async def infer(self, text: str, **options: Any) -> tuple[str, str, dict[str, str]]:
        """The pod that answered, the tenant that its server saw, and the metadata."""
        tensor = messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(text.encode())
        answer, said = await self.call(
            "ModelInfer", messages.ModelInferRequest(model_name="m", inputs=[tensor]), **options
        )
        pod, tenant = (part.decode() for part in answer.outputs[0].contents.bytes_contents)
        return pod, tenant, said

    def start_pod(self, address: str) -> None:
        """Waits until it listens."""
        paths = [str(ROOT / name) for name in (".", "wire", "server_image")]
        command = [sys.executable, "-m", "tests.unit.service.sidecar_pod", address, str(self.balancer.pod_port)]
        pod = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        )
        assert pod.stdout is not None
        assert pod.stdout.readline() == b"ready\n"
        self.pods[address] = pod
        self.names.addresses.append(address)

    async def until(self, up: int) -> None:
        """HAProxy sees so many pods."""
        for _ in range(300):
            pages = await self.admin("/metrics")
            seen = sum(
                line.endswith(" 1") and 'state="UP"' in line
                for line in pages.splitlines()
                if line.startswith('haproxy_server_status{proxy="pods"')
            )
            if seen == up:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{seen} pods are up, not {up}")

    async def admin(self, path: str) -> str:
        url = f"http://127.0.0.1:{self.balancer.admin_port}{path}"
        async with aiohttp.ClientSession() as session:
            for _ in range(100):
                try:
                    async with session.get(url) as response:
                        return await response.text()
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)
        raise AssertionError("HAProxy does not listen")


@dataclass
class Load:
    """Calls one after the other on ``clients`` channels' worth of tasks, and what became of them."""

    world: World
    clients: int = 8
    pods: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    _stop: bool = False

    async def run(self, number: int) -> None:
        asked = 0
        while not self._stop:
            asked += 1
            try:
                pod, _, _ = await self.world.infer(f"{'slow' if asked % 10 == 0 else 'quick'} {number} {asked}")
                self.pods[pod] += 1
            except grpc.aio.AioRpcError as error:
                self.failed.append(f"{error.code()}: {error.details()}")
            await asyncio.sleep(0.005)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        tasks = [asyncio.create_task(self.run(number)) for number in range(self.clients)]
        await asyncio.sleep(0.5)
        try:
            yield self
        finally:
            self._stop = True
            await asyncio.gather(*tasks)


@pytest.fixture
async def world(request: pytest.FixtureRequest, tmp_path: Path, names: tuple[PodNames, int]) -> AsyncIterator[World]:
    """Parametrize indirectly with fields of Balancer, or ``tls`` and ``keys`` for its door."""
    changes: dict[str, Any] = dict(getattr(request, "param", {}))
    tls = changes.pop("tls", False)
    door = write_door(tmp_path, tls=tls, keys=changes.pop("keys", False))
    resolver, dns_port = names
    settings: dict[str, Any] = {
        "algorithm": BalancingAlgorithm.ROUND_ROBIN, "pods_name": PODS_NAME, "slots": 4, "budget_milliseconds": 2000,
        "target_milliseconds": 300, "connections_per_pod": 64, "drain_seconds": 5, "config_folder": str(tmp_path),
        "nameservers": (f"127.0.0.1:{dns_port}",), "address": "127.0.0.1", "door": door, "http_port": free_port(),
        "admin_port": free_port(), "grpc_port": free_port(), "pod_port": free_port(),
    }  # fmt: skip
    balancer = Balancer(**settings | changes)
    made = World(tmp_path, resolver, balancer, start_haproxy(write_configuration(balancer)))
    target = f"127.0.0.1:{balancer.grpc_port}"
    try:
        for address in ADDRESSES:
            await asyncio.to_thread(made.start_pod, address)
        await made.until(len(ADDRESSES))
        trusted = grpc.ssl_channel_credentials((tmp_path / "tls.pem").read_bytes()) if tls else None
        channel = grpc.aio.secure_channel(target, trusted) if trusted else grpc.aio.insecure_channel(target)
        async with channel:
            made.channel = channel
            yield made
    finally:
        for process in (made.haproxy, *made.pods.values()):
            process.kill()
            process.wait()


async def test_calls_of_one_connection_are_spread_over_the_pods(world: World) -> None:
    answered = Counter([(await world.infer(f"text {number}"))[0] for number in range(20)])
    assert answered == dict.fromkeys(ADDRESSES, 10)
    assert (await world.call("ServerReady", messages.ServerReadyRequest()))[0].ready


@pytest.mark.parametrize("world", [{"algorithm": BalancingAlgorithm.CONSISTENT_HASH}], indirect=True)
async def test_affinity_brings_a_question_of_either_protocol_to_one_pod(world: World) -> None:
    url = f"http://127.0.0.1:{world.balancer.http_port}/v2/models/m/infer"
    for number in range(8):
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [f"text {number}"]}
        async with aiohttp.ClientSession() as session:
            said = {"X-Cycle-Affinity": str(number)}
            async with session.post(url, json={"inputs": [tensor]}, headers=said) as response:
                assert response.headers["X-Cycle-Cache"] == "miss"
        *_, metadata = await world.infer(f"text {number}", metadata=(("x-cycle-affinity", str(number)),))
        assert metadata["x-cycle-cache"] == "hit"
    same = {(await world.infer("the same message"))[0] for _ in range(6)}
    assert len(same) == 1


async def test_the_terms_of_a_call_add_up_and_are_counted(world: World) -> None:
    for outcome, known in (("miss", {"queue", "compute", "cache"}), ("hit", {"cache"})):
        for _ in range(2):  # both pods
            *_, said = await world.infer("a")
            terms = parse_timing(said["server-timing"])
            total = terms.pop("total")
            assert said["x-cycle-cache"] == outcome
            assert set(terms) == {"transport", *known}
            assert sum(terms.values()) == pytest.approx(total, rel=0.02, abs=8e-6)
            assert not {"x-cycle-elapsed-us", "x-cycle-terms-us"} & said.keys()
    page = await world.admin("/metrics/times")
    assert re.search(r'cycle_t_seconds_count\{outcome="miss"\} 2\b', page)
    assert re.search(r'cycle_t_seconds_count\{outcome="hit"\} 2\b', page)


async def test_ids_follow_a_call(world: World) -> None:
    *_, said = await world.infer("a", metadata=(("x-request-id", "mine"),))
    assert said["x-request-id"] == "mine"
    *_, said = await world.infer("a")
    assert len(said["x-request-id"]) == 36


@pytest.mark.parametrize("world", [{"keys": True}], indirect=True)
async def test_a_key_says_who_the_tenant_is(world: World) -> None:
    for said in ((), (("x-api-key", "wrong"),), (("x-cycle-tenant", "team-a"),)):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await world.infer("a", metadata=said)
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert (await world.call("ServerLive", messages.ServerLiveRequest()))[0].live
    for key, tenant in (("correct-horse", "team-a"), ("battery-staple", "team-b")):
        said = (("authorization", f"Bearer {key}"), ("x-cycle-tenant", "another"))
        assert (await world.infer("a", metadata=said))[1] == tenant


@pytest.mark.parametrize("world", [{"tls": True}], indirect=True)
async def test_tls_is_spoken_where_there_is_a_certificate(world: World) -> None:
    assert (await world.infer("a"))[0] in ADDRESSES
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.balancer.grpc_port}") as plain:
        world.channel = plain
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await world.infer("a", timeout=3)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_no_pod_is_unavailable(world: World) -> None:
    world.names.addresses.clear()
    await world.until(0)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await world.infer("a")
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_pod_that_leaves_or_dies_costs_no_call(world: World, number: signal.Signals) -> None:
    leaving = ADDRESSES[0]
    async with Load(world).running() as load:
        world.pods[leaving].send_signal(number)
        if number is signal.SIGTERM:
            world.names.addresses.remove(leaving)
            assert await asyncio.to_thread(world.pods[leaving].wait, 15) == 0
        await asyncio.sleep(2)
    assert load.failed == []
    assert set(load.pods) == set(ADDRESSES)
    assert load.pods[ADDRESSES[1]] > load.pods[leaving]


async def test_a_balancer_that_is_replaced_costs_no_call(world: World) -> None:
    """The next one listens on the same port before, as the Service's other balancer does."""
    async with Load(world).running() as load:
        before = load.pods.total()
        after = start_haproxy(world.folder / "haproxy.cfg")
        try:
            await asyncio.sleep(1.5)
            world.haproxy.send_signal(signal.SIGUSR1)
            assert await asyncio.to_thread(world.haproxy.wait, 10) == 0
            await asyncio.sleep(1)
        finally:
            world.haproxy = after
    assert load.failed == []
    assert load.pods.total() > before + 100
