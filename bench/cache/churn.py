"""Does the sidecar's memory grow with what it has answered? `PYTHONPATH=server_image python -m bench.cache.churn`

Every question is new, so that a small cache always replaces: as many misses in minutes as a soak has in an hour or two.
The server behind it answers at once. Prints the sidecar's resident memory (PSS) over the questions.
"""

import argparse
import asyncio
import itertools
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

from bench.cache.servers import Running, sidecar, upstream
from bench.serve.machine import resident_bytes
from cycle_wire.serving import CachePolicy

CONNECTIONS, ROWS = 16, 20
SIZE_BYTES = 4 * 2**20
WORDS = [f"word{number}" for number in range(5000)]
MEDIAN_WORDS, SPREAD, MOST_WORDS = 16, 0.6, 300  # lognormal


def questions(seed: int) -> Iterator[bytes]:
    """Whole requests; none comes twice."""
    chance = random.Random(seed)
    for number in itertools.count():
        count = min(int(chance.lognormvariate(0, SPREAD) * MEDIAN_WORDS) + 1, MOST_WORDS)
        text = f"{seed} {number} " + " ".join(chance.choices(WORDS, k=count))
        body = json.dumps({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]})
        head = f"POST /v2/models/m/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
        yield f"{head}content-type: application/json\r\n\r\n{body}".encode()


class Churn:
    def __init__(self, running: Running, *, seconds: float) -> None:
        self._running = running
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._answered = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for seed in range(CONNECTIONS):
                group.create_task(self._ask(seed))
            group.create_task(self._watch())

    async def _ask(self, seed: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._running.port)
        for question in questions(seed):
            if time.monotonic() > self._until:
                break
            writer.write(question)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith(b"http/1.1 200"):
                raise RuntimeError(f"answered with {head.splitlines()[0]!r}")
            _, _, length = head.partition(b"content-length:")
            await reader.readexactly(int(length.split(b"\r\n", 1)[0]))
            self._answered += 1
        writer.close()

    async def _watch(self) -> None:
        print("| second | answered | sidecar, MiB |\n| --- | --- | --- |")
        for row in range(1, ROWS + 1):
            await asyncio.sleep(self._seconds / ROWS)
            memory = resident_bytes([self._running.process.pid]) / 2**20
            print(f"| {row * self._seconds / ROWS:.0f} | {self._answered:,} | {memory:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="(default: %(default)s)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        upstream() as port,
        sidecar(Path(name), upstream_port=port, policy=CachePolicy.S3FIFO, size_bytes=SIZE_BYTES) as running,
    ):
        uvloop.run(Churn(running, seconds=options.seconds).run())


if __name__ == "__main__":
    main()
