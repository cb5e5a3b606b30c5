"""From start to ready: load the variant and run it at the sizes that will come, on the thread that will compute."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cycle_server.batching.batcher import Batcher
from cycle_server.batching.cost import Cost, fit
from cycle_server.batching.policy import Limits
from cycle_server.batching.rate import RateLimits
from cycle_server.engine.pipeline import Engine
from cycle_server.server.batch_metrics import BatchMetrics
from cycle_server.server.metrics import ServerMetrics
from cycle_wire.serving import ServerConfig

WARM_UP_SECONDS_PER_SIZE = 0.5
WARM_UP_REPEATS = 4


@dataclass(frozen=True)
class Model:
    engine: Engine
    batcher: Batcher


def start_model(config: ServerConfig, metrics: ServerMetrics) -> Model:
    """Blocks until warm. Raises BadVariantError."""
    engine = Engine(Path(config.variant_path), threads=config.threads)
    cost = warm_up(engine, lengths=config.warmup_sequence_lengths, batch_sizes={1, config.maximum_batch_size})
    batcher = Batcher(
        compute=engine.compute,
        limits=Limits(
            maximum_batch_size=config.maximum_batch_size,
            maximum_delay_seconds=config.maximum_delay_milliseconds / 1000,
        ),
        cost=cost,
        queue_limit=config.queue_limit,
        rates=_rates(config),
        observer=BatchMetrics(metrics),
    )
    batcher.start()
    return Model(engine=engine, batcher=batcher)


def _rates(config: ServerConfig) -> RateLimits | None:
    rate = config.tenant_texts_per_second
    return None if rate is None else RateLimits(texts_per_second=rate, burst=config.tenant_burst_texts)


def warm_up(engine: Engine, *, lengths: Sequence[int], batch_sizes: set[int]) -> Cost:
    """Computes at each size; the fastest of each gives the first idea of the cost, which the batcher then corrects."""
    samples: list[tuple[int, float]] = []
    for length in sorted({min(length, engine.maximum_tokens) for length in lengths} or {16}):
        for batch_size in sorted(batch_sizes):
            texts = [[0] * length for _ in range(batch_size)]
            until = time.monotonic() + WARM_UP_SECONDS_PER_SIZE
            times = []
            for _ in range(WARM_UP_REPEATS):
                started = time.monotonic()
                engine.post(engine.compute(texts))
                times.append(time.monotonic() - started)
                if time.monotonic() > until and len(times) > 1:
                    break
            samples.append((batch_size * length, min(times)))
    return fit(samples)
