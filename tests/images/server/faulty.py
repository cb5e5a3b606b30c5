"""The `cycle-server` command with an engine that can be held up or run short of memory, to see what the server does.

HOLD_FILE: computing a batch waits while this file is there; with a pid in it, in that process only. Beside it,
NAME.log gets a line for each batch when it starts: the pid that computes it. STUCK_SECONDS: after how long the server
calls a batch that doesn't end stuck. ROOM_FILE: while it is there, a batch of more tokens than it says asks torch for
more memory than any machine has; torch's allocation fails as it does for want of memory.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cycle_server.batching import batcher
from cycle_server.cli import main
from cycle_server.engine.pipeline import Engine
from cycle_server.workers import pool

IMPOSSIBLE_BYTES = 1 << 60
_compute = Engine.compute


def held_up(self: Engine, tokens: Sequence[Sequence[int]]) -> np.ndarray:
    hold = Path(os.environ["HOLD_FILE"])
    with hold.with_name(hold.name + ".log").open("a") as log:
        log.write(f"{os.getpid()}\n")
    while _said(hold) in ("", str(os.getpid())):
        time.sleep(0.005)
    logits: np.ndarray = _compute(self, tokens)
    return logits


def short_of_memory(self: Engine, tokens: Sequence[Sequence[int]]) -> np.ndarray:
    room = _said(Path(os.environ["ROOM_FILE"]))
    if room is not None and sum(map(len, tokens)) > int(room):
        torch.empty(IMPOSSIBLE_BYTES, dtype=torch.uint8)
    logits: np.ndarray = _compute(self, tokens)
    return logits


def _said(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    Engine.compute = short_of_memory if "ROOM_FILE" in os.environ else held_up  # type: ignore[method-assign]
    pool.PROGRAM = "tests.images.server.faulty"
    batcher.STUCK_SECONDS = float(os.environ.get("STUCK_SECONDS", batcher.STUCK_SECONDS))
    main()
