"""Warms an engine up as the server does, prints WARM, and computes batches, or steps, of every size there can be.

`python -m tests.images.server.every_size FOLDER`, with a folder as variants.py or causal_variants.py write it.
"""

import sys
from pathlib import Path

from cycle_server.batching.generation.plan import STEP_TOKENS
from cycle_server.engine.causal.model import CausalEngine
from cycle_server.engine.causal.request import BLOCK_TOKENS, Chunk, Sampling
from cycle_server.engine.pipeline import Engine
from cycle_server.engine.stages import read_manifest
from cycle_server.engine.warm_up import warm_up
from cycle_server.server import generator
from cycle_wire.parts import Task

WARM = "all kernels are made"
TEXTS = 4


def classify(folder: Path) -> None:
    engine = Engine(folder, threads=1)
    longest = engine.maximum_tokens
    warm_up(engine, lengths=[longest], batch_sizes={1, TEXTS})
    print(WARM, flush=True)
    for length in range(1, longest + 1):
        for texts in range(1, TEXTS + 1):
            engine.compute([[5] * length, *[[5] * longest] * (texts - 1)])
            engine.compute([[5] * length] * texts)


def generate(folder: Path) -> None:
    engine = CausalEngine(folder, threads=1, pool_bytes=1 << 24, sequences=TEXTS)
    longest = min(engine.maximum_tokens, STEP_TOKENS)
    blocks = range(-(-longest // BLOCK_TOKENS))
    generator.warm_up(engine, sequences=TEXTS)
    print(WARM, flush=True)
    for length in range(1, longest + 1):
        for singles in range(TEXTS):
            chunks = [Chunk([5] * length, 0, blocks), *[Chunk([5], 0, blocks)] * singles]
            engine.advance(chunks, [engine.sampler(Sampling())] * len(chunks))


if __name__ == "__main__":
    path = Path(sys.argv[1])
    classify(path) if read_manifest(path).task is Task.TEXT_CLASSIFICATION else generate(path)
