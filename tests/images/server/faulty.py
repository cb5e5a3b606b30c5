"""The `cycle-server` command with an engine that can be held up, to see what the server does about it.

HOLD_FILE: computing a batch waits while this file is there; with a pid in it, in that process only. Beside it,
NAME.log gets a line for each batch when it starts: the pid that computes it. STUCK_SECONDS: after how long the server
calls a batch that doesn't end stuck.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cycle_server.batching import batcher
from cycle_server.cli import main
from cycle_server.engine.pipeline import Engine
from cycle_server.workers import pool

_compute = Engine.compute


def held_up(self: Engine, tokens: Sequence[Sequence[int]]) -> np.ndarray:
    hold = Path(os.environ["HOLD_FILE"])
    with hold.with_name(hold.name + ".log").open("a") as log:
        log.write(f"{os.getpid()}\n")
    while _held_pid(hold) in ("", str(os.getpid())):
        time.sleep(0.005)
    logits: np.ndarray = _compute(self, tokens)
    return logits


def _held_pid(hold: Path) -> str | None:
    try:
        return hold.read_text()
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    Engine.compute = held_up  # type: ignore[method-assign]
    pool.PROGRAM = "tests.images.server.faulty"
    batcher.STUCK_SECONDS = float(os.environ.get("STUCK_SECONDS", batcher.STUCK_SECONDS))
    main()
