"""Several processes that compute in one pod: what they cost in memory and time, and what they bring.

    python -m tests.images.run bench -- python -m bench.workers

all-MiniLM-L6-v2, Float32, one thread each. "MiB": of all processes, shared pages counted once. "texts/s": all workers
at once, each in a loop over batches of 8 texts with 16 tokens. "hand-over": what a worker's answer for one such text
takes longer than the same computed in this process, in turns: mostly two wake-ups, so a busy machine shows in it.
"""

import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

from bench.serve.variant import write_variant
from cycle_server.engine.pipeline import Engine
from cycle_server.process import descendants
from cycle_server.workers.messages import read_items, read_reply, write_items, write_result
from cycle_server.workers.pool import Pool, Worker
from cycle_wire.parts import Precision
from cycle_wire.serving import ServerConfig

COUNTS = (1, 2, 4)
SECONDS = 4.0
TURNS = 300
BATCH = [[7] * 16] * 8
LIMIT_SECONDS = 60.0


def shared_once_mib(pids: set[int]) -> float:
    kilobytes = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            kilobytes += int(line.split()[1]) if line.startswith("Pss:") else 0
    return kilobytes / 1024


def texts_per_second(workers: list[Worker]) -> float:
    done, until = [0] * len(workers), time.perf_counter() + SECONDS

    def loop(index: int) -> None:
        while time.perf_counter() < until:
            workers[index].compute(BATCH, limit_seconds=LIMIT_SECONDS)
            done[index] += len(BATCH)

    threads = [threading.Thread(target=loop, args=(index,)) for index in range(len(workers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / SECONDS


def hand_over_milliseconds(engine: Engine, worker: Worker) -> float:
    differences = []
    for _ in range(TURNS):
        started = time.perf_counter()
        engine.compute(BATCH[:1])
        between = time.perf_counter()
        worker.compute(BATCH[:1], limit_seconds=LIMIT_SECONDS)
        differences.append((time.perf_counter() - between) - (between - started))
    return 1000 * statistics.median(differences)


def messages_milliseconds(engine: Engine) -> float:
    """CPU time of writing and reading a full batch and its outputs, both sides together."""
    outputs, started = engine.compute(BATCH), time.thread_time()
    for _ in range(TURNS):
        read_items(write_items(BATCH))
        read_reply(write_result(outputs))
    return 1000 * (time.thread_time() - started) / TURNS


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "variant")
        digest = write_variant(folder, precision=Precision.FLOAT32)
        engine = Engine(folder, threads=1)
        config = ServerConfig(
            model_name="m", variant_path=str(folder), model_digest=digest, variant="fp32", maximum_batch_size=8
        )
        print(f"messages of a batch of 8: {messages_milliseconds(engine):.3f} ms of CPU time")
        print("workers     MiB   start s   texts/s   renew s   hand-over ms", flush=True)
        for count in COUNTS:
            started = time.perf_counter()
            pool = Pool(config.model_copy(update={"workers": count}))
            start_seconds = time.perf_counter() - started
            rate, memory = texts_per_second(pool.workers), shared_once_mib(descendants(os.getpid()))
            started = time.perf_counter()
            pool.workers[0].renew()
            renew_seconds = time.perf_counter() - started
            over = hand_over_milliseconds(engine, pool.workers[0])
            print(
                f"{count:>7}{memory:>8.0f}{start_seconds:>10.1f}{rate:>10.1f}{renew_seconds:>10.2f}{over:>15.2f}",
                flush=True,
            )
            pool.close()


if __name__ == "__main__":
    main()
