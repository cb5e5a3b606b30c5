"""What a hit costs the sidecar over gRPC and over HTTP, and what its memory is with gRPC and without.

    PYTHONPATH=server_image python -m bench.cache.protocols

The sidecar is on one core, the load and the HAProxy that turns its HTTP/2 into HTTP/1.1 on the other. Of interest is
the sidecar's CPU time per answer, which other work disturbs least; the protocols take turns. Answers are hits known by
the bytes of their request.
"""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp
import grpc
import uvloop

from bench.cache.servers import LOAD_CORE, Running, sidecar, upstream
from cycle_server.protocol import open_inference_pb2 as messages
from cycle_server.protocol.grpc_status import SERVICE
from cycle_wire.serving import CachePolicy
from tests.unit.server.sidecar.calls_door import calls_door

QUESTIONS, CLIENTS, SECONDS, TURNS = 200, 16, 3.0, 5


def texts() -> list[str]:
    return [f"a man-made object taken as a whole, number {number}" for number in range(QUESTIONS)]


def message(text: str) -> bytes:
    tensor = messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(text.encode())
    return messages.ModelInferRequest(model_name="m", inputs=[tensor]).SerializeToString()


def body(text: str) -> bytes:
    return json.dumps({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}).encode()


async def over_grpc(port: int) -> int:
    """Answers in SECONDS."""
    asked = [message(text) for text in texts()]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        until, answers = time.monotonic() + SECONDS, 0

        async def work(first: int) -> None:
            nonlocal answers
            number = first
            while time.monotonic() < until:
                await ask(asked[number % QUESTIONS])
                number += 1
                answers += 1

        await asyncio.gather(*(work(first) for first in range(CLIENTS)))
    return answers


async def over_http(port: int) -> int:
    asked = [body(text) for text in texts()]
    url, headers = f"http://127.0.0.1:{port}/v2/models/m/infer", {"Content-Type": "application/json"}
    async with aiohttp.ClientSession() as session:
        until, answers = time.monotonic() + SECONDS, 0

        async def work(first: int) -> None:
            nonlocal answers
            number = first
            while time.monotonic() < until:
                async with session.post(url, data=asked[number % QUESTIONS], headers=headers) as response:
                    response.raise_for_status()
                    await response.read()
                number += 1
                answers += 1

        await asyncio.gather(*(work(first) for first in range(CLIENTS)))
    return answers


def resident_mb(running: Running) -> float:
    lines = Path(f"/proc/{running.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1000


def main() -> None:
    spent: dict[str, list[float]] = {"HTTP": [], "gRPC": []}
    with tempfile.TemporaryDirectory() as name, upstream() as behind:
        folder = Path(name)
        with sidecar(folder, upstream_port=behind, policy=CachePolicy.LRU) as running:
            fresh = resident_mb(running)
            uvloop.run(over_http(running.port))
            print(f"memory without gRPC: {fresh:.1f} MB after the start, {resident_mb(running):.1f} under load")
        with (
            sidecar(folder, upstream_port=behind, policy=CachePolicy.LRU, grpc=True) as running,
            calls_door(running.port, prefix=("taskset", "--cpu-list", LOAD_CORE)) as door,
        ):
            fresh = resident_mb(running)
            for turn in range(TURNS + 1):
                for protocol, run in (("HTTP", over_http(running.port)), ("gRPC", over_grpc(door))):
                    before = running.cpu_seconds()
                    answers = uvloop.run(run)
                    if turn:  # the first warms up
                        spent[protocol].append((running.cpu_seconds() - before) / answers)
            print(f"memory with it: {fresh:.1f} MB after the start, {resident_mb(running):.1f} under load")
    for protocol, seconds in spent.items():
        median = statistics.median(seconds)
        print(f"{protocol}: {median * 1e6:.0f} us of CPU per hit, so {1 / median:.0f} hits per second and core")


if __name__ == "__main__":
    main()
