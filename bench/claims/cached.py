"""The response cache: the same requests, one at a time, to a pod with and a pod without a cache. Inside the image."""

import http.client
import json
import os
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from bench.claims.rows import Bench, Result, result
from bench.claims.timing import paired
from bench.planner.validate.pods import Cores, Service, service
from cycle_server.load.arrivals import zipf
from cycle_server.protocol.v2 import infer_request
from cycle_wire.variant import VariantManifest
from cycleops.api.cycleservice import BalancingAlgorithm

TEXTS, EXPONENT = 2_000, 0.9
ASKED_BEFORE = 2_000  # to both, so that the cache is not cold
READY_SECONDS = 120


class Caller:
    """One connection to the balancer of a service."""

    def __init__(self, running: Service, bodies: list[bytes]) -> None:
        url = urlsplit(running.url)
        self._path, self._bodies = url.path, bodies
        self._connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=30)
        self.outcomes: Counter[str] = Counter()

    def __call__(self, number: int) -> object:
        body = self._bodies[number % len(self._bodies)]
        self._connection.request("POST", self._path, body=body, headers={"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {said[:200]!r}")
        self.outcomes[answer.headers.get("X-Cycle-Cache", "none")] += 1
        return said

    def close(self) -> None:
        """The next call opens it again."""
        self._connection.close()


def cache_row(bench: Bench) -> Result:
    folder, rows_file = bench.variants("bert") / "fp32", bench.rows_file("bert")
    manifest = VariantManifest.model_validate_json((folder / "manifest.json").read_bytes())
    with rows_file.open(encoding="utf-8") as lines:
        texts = [json.loads(line)["gloss"] for line, _ in zip(lines, range(TEXTS), strict=False)]
    ranks = zipf(count=TEXTS, exponent=EXPONENT, seed=1)
    bodies = [infer_request(texts[next(ranks) % len(texts)]) for _ in range(50_000)]
    cores = Cores.found()
    with ExitStack() as stack:
        callers = []
        for cached in (False, True):
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            running = stack.enter_context(
                service(folder, scratch, cores, digest=manifest.model_digest, variant="fp32", replicas=1,
                        maximum_batch_size=1, algorithm=BalancingAlgorithm.LEAST_CONNECTIONS, cached=cached)
            )  # fmt: skip
            callers.append(Caller(running, bodies))
        os.sched_setaffinity(0, {cores.outside})
        for caller in callers:
            _wait(caller)
            for number in range(ASKED_BEFORE):
                caller(number)
            caller.outcomes.clear()
        plain, caching = callers
        times = paired(
            lambda number: plain(number + ASKED_BEFORE), lambda number: caching(number + ASKED_BEFORE),
            calls=50, seconds=bench.seconds,
        )  # fmt: skip
    hits = caching.outcomes["hit"] / caching.outcomes.total()
    note = (
        f"{hits:.0%} hits: {TEXTS:,} texts, Zipf's law with exponent {EXPONENT}; from client to client, balancer and "
        "sidecar included; it is the hit ratio that decides"
    )
    return result(times, accuracy_change=0.0, note=note)


def _wait(caller: Caller) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            caller(0)
            return
        except (OSError, http.client.HTTPException, RuntimeError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
            caller.close()
