"""From start to ready: load the variant and run it at the sizes that will come, on the thread that will compute."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cycle_server.batching.batcher import Batcher
from cycle_server.batching.cost import fit
from cycle_server.batching.execution import Compute
from cycle_server.batching.lane import Process
from cycle_server.batching.policy import Limits
from cycle_server.batching.rate import RateLimits
from cycle_server.engine.stages import AnyStages, read_stages
from cycle_server.server.batch_metrics import BatchMetrics
from cycle_server.server.metrics import ServerMetrics
from cycle_server.workers.pool import Pool
from cycle_wire.serving import ServerConfig


@dataclass(frozen=True)
class Model:
    """``stop`` blocks until what is queued has been computed, and ends what computes."""

    engine: AnyStages
    batcher: Batcher
    stop: Callable[[], None]


@dataclass(frozen=True)
class _Computing:
    stages: AnyStages
    compute: Compute | Sequence[Process]
    samples: Sequence[tuple[int, float]]
    close: Callable[[], None] = lambda: None


def start_model(config: ServerConfig, metrics: ServerMetrics) -> Model:
    """Blocks until warm. Raises BadVariantError, or ComputeLostError when a process ends before that."""
    computing = _own_thread(config) if config.workers == 1 else _processes(config)
    batcher = Batcher(
        compute=computing.compute,
        limits=Limits(
            maximum_batch_size=config.maximum_batch_size,
            maximum_delay_seconds=config.maximum_delay_milliseconds / 1000,
        ),
        cost=fit(computing.samples),
        queue_limit=config.queue_limit,
        rates=_rates(config),
        observer=BatchMetrics(metrics),
    )
    batcher.start()

    def stop() -> None:
        batcher.stop()
        computing.close()

    return Model(engine=computing.stages, batcher=batcher, stop=stop)


def _own_thread(config: ServerConfig) -> _Computing:
    from cycle_server.engine.choose import load_engine  # torch is only for a process that computes
    from cycle_server.engine.warm_up import warm_up

    engine = load_engine(Path(config.variant_path), threads=config.threads, device=config.device)
    samples = warm_up(engine, lengths=config.warmup_sequence_lengths, batch_sizes={1, config.maximum_batch_size})
    return _Computing(stages=engine, compute=engine.compute, samples=samples)


def _processes(config: ServerConfig) -> _Computing:
    pool = Pool(config)
    stages = read_stages(Path(config.variant_path), maximum_tokens=pool.maximum_tokens)
    return _Computing(stages=stages, compute=pool.workers, samples=pool.samples, close=pool.close)


def _rates(config: ServerConfig) -> RateLimits | None:
    rate = config.tenant_texts_per_second
    return None if rate is None else RateLimits(texts_per_second=rate, burst=config.tenant_burst_texts)
