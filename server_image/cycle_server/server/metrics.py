"""What the server exports on /metrics. ``outcome`` is the cache sidecar's word for the request: hits never get here."""

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from cycle_server.tracing import trace_id
from cycle_wire.buckets import TOKEN_BUCKETS, time_buckets

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series

SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
LABEL_BUCKETS = 64  # labels are counted by their index modulo this: bounded, whatever the model
OUTCOMES = ("miss", "bypass", "direct")  # direct: without the sidecar


def exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Text and its content type. Exemplars are in OpenMetrics only, which is given to who asks for it."""
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def observe(histogram: Histogram, seconds: float, *, traceparent: str) -> None:
    """With the trace as exemplar, where it is sampled."""
    found = trace_id(traceparent)
    histogram.observe(seconds, exemplar={"trace_id": found} if found else None)


class ServerMetrics:
    """Buckets of times are fine around the latency budget, ``target_milliseconds``."""

    def __init__(self, *, target_milliseconds: float = 1000.0) -> None:
        self.registry = CollectorRegistry()
        buckets = time_buckets(target_milliseconds)
        ProcessCollector(registry=self.registry)
        self.terms = {
            term: Histogram(
                f"cycle_{term}_seconds",
                f"{text} of an answered request.",
                ["outcome"],
                buckets=buckets,
                registry=self.registry,
            )
            for term, text in {
                "pre": "Reading the body and tokenizing",
                "queue": "Waiting for a batch and for the compute thread",
                "compute": "The batch's computation",
                "post": "Making the answer",
                "request": "All of the server's time",
            }.items()
        }
        self.batch_size = Histogram(
            "cycle_batch_size", "Texts computed together.", buckets=SIZE_BUCKETS, registry=self.registry
        )
        self.input_tokens = Histogram(
            "cycle_input_tokens", "Length of a computed text.", buckets=TOKEN_BUCKETS, registry=self.registry
        )
        answers = Counter(
            "cycle_answers",
            f"Computed texts by index of the likeliest label, modulo {LABEL_BUCKETS}.",
            ["index"],
            registry=self.registry,
        )
        self._answers = [answers.labels(str(index)) for index in range(LABEL_BUCKETS)]
        self.requests = Counter("cycle_requests", "Answers to infer by status code.", ["code"], registry=self.registry)
        self.queue_depth = Gauge("cycle_queue_texts", "Texts that wait.", registry=self.registry)
        self.in_flight = Gauge("cycle_requests_in_flight", "Requests being answered.", registry=self.registry)
        self.ready = Gauge("cycle_ready", "1 when the server takes requests.", registry=self.registry)
        self.startup = Gauge("cycle_startup_seconds", "From process start to ready.", registry=self.registry)

    def count_texts(self, *, lengths: Iterable[int], labels: Iterable[int]) -> None:
        """Of what was computed: a shift of either says that the profile may not hold any more."""
        for length in lengths:
            self.input_tokens.observe(length)
        for label in labels:
            self._answers[label % LABEL_BUCKETS].inc()
