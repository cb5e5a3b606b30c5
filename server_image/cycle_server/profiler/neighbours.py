"""The other workers of a pod, at work: the workers share caches, memory bandwidth and the clock's heat."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cycle_server.items import Item
from cycle_server.workers.pool import Pool, Worker
from cycle_wire.serving import ServerConfig

LIMIT_SECONDS = 120.0  # of a batch


@contextmanager
def busy_neighbours(server: ServerConfig, sample: Callable[[int], Item]) -> Iterator[None]:
    """All workers but one of such a server compute all the time. With one worker: nothing. ``sample`` has a length.

    Raises RuntimeError at the end when one of them failed meanwhile: the measurement would not hold.
    """
    if server.workers == 1:
        yield
        return
    pool = Pool(server.model_copy(update={"workers": server.workers - 1}))
    batches = [
        [sample(length)] * size
        for length in server.warmup_sequence_lengths
        for size in sorted({1, server.maximum_batch_size})
    ]
    done = threading.Event()
    failures: list[Exception] = []

    def keep_busy(worker: Worker) -> None:
        for batch in itertools.cycle(batches):
            if done.is_set():
                return
            try:
                worker.compute(batch, limit_seconds=LIMIT_SECONDS)
            except Exception as error:  # noqa: BLE001 - told by whoever measures
                failures.append(error)
                return

    threads = [threading.Thread(target=keep_busy, args=(worker,)) for worker in pool.workers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()
        pool.close()
    if failures:
        raise RuntimeError(f"a worker beside the measured one failed: {failures[0]}") from failures[0]
