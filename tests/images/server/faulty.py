"""The `cycle-server` command with an engine that can be held up, to see what the server does about it.

HOLD_FILE: computing a batch waits while this file is there. STUCK_SECONDS: after how long the server calls that stuck.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cycle_server.batching import batcher
from cycle_server.cli import main
from cycle_server.engine.pipeline import Engine

_compute = Engine.compute


def held_up(self: Engine, tokens: Sequence[Sequence[int]]) -> np.ndarray:
    hold = Path(os.environ["HOLD_FILE"])
    while hold.exists():
        time.sleep(0.005)
    logits: np.ndarray = _compute(self, tokens)
    return logits


if __name__ == "__main__":
    Engine.compute = held_up  # type: ignore[method-assign]
    batcher.STUCK_SECONDS = float(os.environ.get("STUCK_SECONDS", batcher.STUCK_SECONDS))
    main()
