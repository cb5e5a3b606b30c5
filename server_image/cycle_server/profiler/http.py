"""The real server and sidecar as processes: start-up, memory, and what HTTP adds to a paced request."""

import asyncio
import contextlib
import socket
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientError, ClientSession

from cycle_server.process import cpu_seconds_beside_computing, peak_resident_bytes
from cycle_server.protocol.timing import HEADER as TIMING_HEADER
from cycle_server.protocol.timing import TERMS, parse_timing
from cycle_wire.base import WireModel
from cycle_wire.headers import CACHE_HEADER
from cycle_wire.profile import Histogram
from cycle_wire.serving import ServerConfig, SidecarConfig

START_SECONDS = 180.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.02
PACE_SECONDS = 0.02
WARM_UP_REQUESTS = 20
MODEL_NAME = "profile"


@dataclass(frozen=True)
class HttpMeasurement:
    """``overhead``: total less pre, compute and post of a miss. ``cache_hit``: total of a hit. ``..._cpu_seconds``: of
    server and sidecar, per request.
    """

    overhead: Histogram
    cache_hit: Histogram
    overhead_cpu_seconds: float
    cache_hit_cpu_seconds: float
    memory_bytes: int
    startup_seconds: float


def measure_http(server: ServerConfig, bodies: Sequence[bytes]) -> HttpMeasurement:
    """Each request to infer once as a miss, then again as a hit.

    Raises RuntimeError when a process or an answer isn't right.
    """
    return asyncio.run(_measure(server, bodies))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


async def _measure(server: ServerConfig, bodies: Sequence[bytes]) -> HttpMeasurement:
    server = server.model_copy(update={"port": free_port(), "model_name": MODEL_NAME, "drain_seconds": 0})
    sidecar = SidecarConfig(
        upstream=f"http://127.0.0.1:{server.port}",
        port=free_port(),
        model_digest=server.model_digest,
        variant=server.variant,
        drain_seconds=0,
    )
    async with (
        ClientSession() as session,
        _process("sidecar", sidecar) as sidecar_process,
        _process("serve", server) as server_process,
    ):
        started = time.monotonic()
        await _ready(session, server.port, [server_process, sidecar_process])
        startup_seconds = time.monotonic() - started
        await _ready(session, sidecar.port, [server_process, sidecar_process])
        url = f"http://127.0.0.1:{sidecar.port}/v2/models/{MODEL_NAME}/infer"
        pids = (server_process.pid, sidecar_process.pid)
        misses = await _measured(session, url, bodies, "miss", pids)
        hits = await _measured(session, url, bodies, "hit", pids)
        memory = sum(peak_resident_bytes(pid) for pid in pids)
    return HttpMeasurement(
        overhead=Histogram.of(misses.overhead),
        cache_hit=Histogram.of(hits.total),
        # Pre and post are terms of their own, and all of them is computing.
        overhead_cpu_seconds=max(misses.cpu_seconds - misses.edges_seconds, 0.0),
        cache_hit_cpu_seconds=hits.cpu_seconds,
        memory_bytes=memory,
        startup_seconds=startup_seconds,
    )


@contextlib.asynccontextmanager
async def _process(command: str, config: WireModel) -> AsyncIterator[Process]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(config.to_json(), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cycle_server.cli", command, "--config", str(path)
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _ready(session: ClientSession, port: int, processes: Sequence[Process]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for process in processes:
            if process.returncode is not None:
                raise RuntimeError(f"process {process.pid} ended with {process.returncode} before it was ready")
        with contextlib.suppress(ClientError):  # it doesn't listen yet
            async with session.get(f"http://127.0.0.1:{port}/v2/health/ready") as response:
                if response.status == 200:
                    return
        await asyncio.sleep(POLL_SECONDS)
    raise RuntimeError(f"the server was not ready after {START_SECONDS:.0f} s")


@dataclass(frozen=True)
class _Measured:
    """Seconds: of each request, and in the mean. ``edges_seconds``: pre and post."""

    total: list[float]
    overhead: list[float]
    edges_seconds: float
    cpu_seconds: float


async def _measured(
    session: ClientSession, url: str, bodies: Sequence[bytes], outcome: str, pids: Sequence[int]
) -> _Measured:
    """One request after the other; the first are warm-up."""
    for body in bodies[:WARM_UP_REQUESTS]:
        await _paced(session, url, body, outcome)
    before = sum(cpu_seconds_beside_computing(pid) for pid in pids)
    answered = [await _paced(session, url, body, outcome) for body in bodies[WARM_UP_REQUESTS:]]
    spent = sum(cpu_seconds_beside_computing(pid) for pid in pids) - before
    model = [sum(seconds for term, seconds in terms.items() if term not in ("total", "queue")) for terms in answered]
    # The queue of an idle server is the hand-over between its threads: no waiting, so it belongs to the overhead.
    return _Measured(
        total=[terms["total"] for terms in answered],
        overhead=[terms["total"] - inside for terms, inside in zip(answered, model, strict=True)],
        edges_seconds=sum(terms.get("pre", 0.0) + terms.get("post", 0.0) for terms in answered) / len(answered),
        cpu_seconds=spent / len(answered),
    )


async def _paced(session: ClientSession, url: str, body: bytes, outcome: str) -> dict[str, float]:
    """Seconds: the total and the model's terms."""
    await asyncio.sleep(PACE_SECONDS)
    started = time.perf_counter()
    async with session.post(url, data=body) as response:
        answer = await response.read()
        total = time.perf_counter() - started
    seen = response.headers.get(CACHE_HEADER)
    if response.status != 200 or seen != outcome:
        raise RuntimeError(f"expected 200 and a {outcome}, got {response.status} and {seen}: {answer[:200]!r}")
    terms = parse_timing(response.headers.get(TIMING_HEADER, ""))
    return {"total": total, **{term: terms.get(term, 0.0) for term in TERMS}}
