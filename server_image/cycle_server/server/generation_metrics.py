"""What the decoder does, as metrics, beside those that every model has."""

from prometheus_client import Counter, Gauge, Histogram

from cycle_server.batching.generation.decoder import Decoder
from cycle_server.batching.generation.observer import GenerationObserver
from cycle_server.server.batch_metrics import BatchMetrics
from cycle_server.server.metrics import ServerMetrics
from cycle_wire.buckets import time_buckets

TOKEN_BUCKETS = tuple(float(f"{0.0005 * 1.25**i:.3g}") for i in range(40))  # 0.5 ms to 3 s


class GenerationMetrics(BatchMetrics, GenerationObserver):
    """``cycle_batch_size`` counts the sequences of a step."""

    def __init__(self, metrics: ServerMetrics, *, target_milliseconds: float) -> None:
        super().__init__(metrics)
        registry = metrics.registry
        self.first_token = Histogram(
            "cycle_first_token_seconds",
            "From a request's arrival to its first token.",
            buckets=time_buckets(target_milliseconds),
            registry=registry,
        )
        self.per_token = Histogram(
            "cycle_per_token_seconds", "Between two tokens of one answer.", buckets=TOKEN_BUCKETS, registry=registry
        )
        self.generated = Counter("cycle_generated_tokens", "Tokens of answers.", registry=registry)
        self.prompted = Counter("cycle_prompt_tokens", "Tokens of prompts.", registry=registry)
        self._preempted = Counter(
            "cycle_preempted_sequences", "Gave their keys and values up and started over.", registry=registry
        )
        self._running = Gauge("cycle_running_sequences", "Answers under way.", registry=registry)
        self._used = Gauge("cycle_key_value_blocks_used", "Blocks of keys and values in use.", registry=registry)
        self._blocks = Gauge("cycle_key_value_blocks", "Blocks of keys and values there are.", registry=registry)

    def watch(self, decoder: Decoder) -> None:
        self._running.set_function(lambda: decoder.running)
        self._used.set_function(lambda: decoder.used_blocks)
        self._blocks.set(decoder.blocks)

    def step(self, *, sequences: int, tokens: int, seconds: float) -> None:  # noqa: ARG002
        self._batch_size.observe(sequences)

    def preempted(self, sequences: int) -> None:
        if sequences:
            self._preempted.inc(sequences)
