"""The model called directly, without any server: a process that takes commands as JSON lines on its stdin.

python -m bench.serve.direct --folder F --kind engine
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.serve.peers.model import Predict, load_predict
from cycle_server.load.arrivals import poisson


def saturate(predict: Predict, *, texts: list[str], batch: int, seconds: float) -> float:
    """Texts per second in batches; the first quarter is warm-up."""
    batches = itertools.cycle([texts[i : i + batch] for i in range(0, len(texts) - batch + 1, batch)])
    until = time.perf_counter() + seconds / 4
    while time.perf_counter() < until:
        predict(next(batches))
    done, started = 0, time.perf_counter()
    while time.perf_counter() < started + seconds:
        predict(next(batches))
        done += batch
    return done / (time.perf_counter() - started)


def paced(predict: Predict, *, texts: list[str], rate: float, seconds: float, seed: int) -> list[float]:
    """Seconds from each Poisson arrival to its answer, one at a time: the same arrivals as the servers get."""
    latencies, start = [], time.perf_counter()
    for arrival, text in zip(
        poisson(rate=rate, duration_seconds=seconds, seed=seed), itertools.cycle(texts), strict=False
    ):
        intended = start + arrival
        if (wait := intended - time.perf_counter()) > 0:
            time.sleep(wait)
            intended = time.perf_counter()  # the timer's lateness isn't the model's
        predict([text])
        latencies.append(time.perf_counter() - intended)
    return latencies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kind", required=True)
    options = parser.parse_args()
    predict = load_predict(options.folder, kind=options.kind)
    tasks: dict[str, Callable[..., object]] = {"saturate": saturate, "paced": paced}
    for line in sys.stdin:
        command: dict[str, Any] = json.loads(line)
        print(json.dumps(tasks[command.pop("task")](predict, **command)), flush=True)


if __name__ == "__main__":
    main()
