"""A language model from start to ready: loaded, its pool of keys and values made, and warm."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cycle_server.batching.cost import Cost, fit
from cycle_server.batching.generation.decoder import Decoder
from cycle_server.batching.generation.plan import STEP_TOKENS
from cycle_server.batching.rate import RateLimits
from cycle_server.engine.causal.request import BLOCK_TOKENS, Chunk, Sampling
from cycle_server.server.generation_metrics import GenerationMetrics
from cycle_server.server.metrics import ServerMetrics
from cycle_wire.serving import ServerConfig

if TYPE_CHECKING:
    from cycle_server.engine.causal.model import CausalEngine

logger = logging.getLogger(__name__)

WARM_UP_REPEATS = 4
KEY_VALUE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Generator:
    """``batcher`` has the decoding thread, and what the server asks of any model's: depth, is_stuck, stop."""

    engine: CausalEngine
    batcher: Decoder
    metrics: GenerationMetrics

    def stop(self) -> None:
        """Blocks until what is under way has ended."""
        self.batcher.stop()


def decoding_threads(config: ServerConfig) -> int:
    """One process decodes, whatever ``workers`` says: answers under way share its steps. It has the threads of all."""
    return config.workers * config.threads


def start_generator(config: ServerConfig, metrics: ServerMetrics) -> Generator:
    """Blocks until warm. Raises BadVariantError."""
    from cycle_server.engine.causal.model import CausalEngine  # transformers is only for those who generate
    from cycle_server.engine.device import choose_device

    threads = decoding_threads(config)
    if config.workers > 1:
        logger.warning("a language model is decoded by one process, not by %d: of %d threads", config.workers, threads)
    engine = CausalEngine(
        Path(config.variant_path),
        threads=threads,
        pool_bytes=config.key_value_bytes or KEY_VALUE_BYTES,
        sequences=config.maximum_batch_size,
        device=choose_device(config.device),
    )
    observer = GenerationMetrics(metrics, target_milliseconds=config.target_milliseconds)
    rate = config.tenant_texts_per_second
    decoder = Decoder(
        engine=engine,
        sequences=config.maximum_batch_size,
        cost=warm_up(engine, sequences=config.maximum_batch_size),
        queue_limit=config.queue_limit,
        rates=None if rate is None else RateLimits(texts_per_second=rate, burst=config.tenant_burst_texts),
        observer=observer,
    )
    observer.watch(decoder)
    decoder.start()
    return Generator(engine=engine, batcher=decoder, metrics=observer)


def warm_up(engine: CausalEngine, *, sequences: int) -> Cost:
    """Steps of one token, of as many as there can be sequences, and of a prompt; the fastest of each is fitted."""
    longest = -(-engine.maximum_tokens // BLOCK_TOKENS)
    sampler = engine.sampler(Sampling())
    one = [Chunk(tokens=[0], position=0, blocks=range(longest))]
    prompt = [Chunk(tokens=[0] * min(STEP_TOKENS, engine.maximum_tokens), position=0, blocks=range(longest))]
    engine.prepare(tokens=STEP_TOKENS + sequences, sequences=sequences)
    samples = []
    for chunks in (one, one * sequences, prompt):
        times = []
        for _ in range(WARM_UP_REPEATS):
            started = time.monotonic()
            engine.advance(chunks, [sampler] * len(chunks))
            times.append(time.monotonic() - started)
        samples.append((sum(len(chunk.tokens) for chunk in chunks), min(times)))
    return fit(samples)
