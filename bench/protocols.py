"""What each protocol costs: one client, one request at a time, a model so small that the rest of the way is the time.

    python -m tests.images.run clients -- env PYTHONPATH=/repo /opt/clients/bin/python -m bench.protocols

The protocols take turns in short rounds, so that a disturbance of the machine falls on all alike. Prints the client's
time of a request, p50 and p99 in milliseconds, and the server's peak memory with gRPC and without.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import requests
from tritonclient import grpc, http

from cycle_server.process import peak_resident_bytes
from cycle_server.profiler.http import free_port
from cycle_wire.parts import Variant
from tests.images.server.serving import serving
from tests.images.server.variants import write_variant

TEXT = "the small cat runs on the large tree"
ROUNDS, CALLS, WARM_UP = 40, 25, 50

Call = Callable[[], object]


def http_calls(url: str) -> dict[str, Call]:
    """One request of each protocol; each client keeps its connection."""
    session = requests.Session()
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}

    def post(path: str, body: dict[str, Any]) -> Call:
        def call() -> object:
            response = session.post(f"http://{url}{path}", json=body)
            response.raise_for_status()
            return response.json()

        return call

    binary = http.InferInput("text", [1], "BYTES")
    binary.set_data_from_numpy(np.array([TEXT], dtype=np.object_))
    client = http.InferenceServerClient(url)
    return {
        "v2 JSON, requests": post("/v2/models/m/infer", {"inputs": [tensor]}),
        "v2 binary, tritonclient.http": lambda: client.infer("m", [binary]).as_numpy("label"),
        "/classify, requests": post("/classify", {"text": TEXT}),
        "/v1/embeddings, requests": post("/v1/embeddings", {"model": "m", "input": TEXT}),
    }


def grpc_calls(url: str) -> dict[str, Call]:
    text = grpc.InferInput("text", [1], "BYTES")
    text.set_data_from_numpy(np.array([TEXT], dtype=np.object_))
    client = grpc.InferenceServerClient(url)
    return {"v2 gRPC, tritonclient.grpc": lambda: client.infer("m", [text]).as_numpy("label")}


def measure(named: dict[str, Call]) -> dict[str, list[float]]:
    """Seconds of each call."""
    for call in named.values():
        for _ in range(WARM_UP):
            call()
    times: dict[str, list[float]] = {name: [] for name in named}
    for _ in range(ROUNDS):
        for name, call in named.items():
            for _ in range(CALLS):
                started = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - started)
    return times


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_variant(Path(folder) / "v", variant=Variant(name="v"))
        port = free_port()
        with serving(Path(folder) / "v", grpc_port=port, budget_milliseconds=60_000) as running:
            named = http_calls(f"127.0.0.1:{running.port}") | grpc_calls(f"127.0.0.1:{port}")
            times = measure(named)
            with_grpc = peak_resident_bytes(running.process.pid)
        with serving(Path(folder) / "v", budget_milliseconds=60_000) as running:
            measure(http_calls(f"127.0.0.1:{running.port}"))
            without = peak_resident_bytes(running.process.pid)
    for name, seconds in times.items():
        p50, p99 = (1000 * statistics.quantiles(seconds, n=100)[q - 1] for q in (50, 99))
        print(f"{name:32} p50 {p50:6.2f}  p99 {p99:6.2f} ms  ({len(seconds)} requests)")
    print(f"server's peak memory: {with_grpc / 1e6:.0f} MB with gRPC, {without / 1e6:.0f} MB without")


if __name__ == "__main__":
    main()
