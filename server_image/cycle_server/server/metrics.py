"""What the server exports on /metrics. ``outcome`` is the cache sidecar's word for the request: hits never get here."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series

# 100 us to 20 s in steps of 25 %, so that a quantile read from the buckets is within about 12 %.
TIME_BUCKETS = tuple(round(1e-4 * 1.25**i, 7) for i in range(56))
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
OUTCOMES = ("miss", "bypass", "direct")  # direct: without the sidecar
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class ServerMetrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.terms = {
            term: Histogram(
                f"cycle_{term}_seconds",
                f"{text} of an answered request.",
                ["outcome"],
                buckets=TIME_BUCKETS,
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
        self.requests = Counter("cycle_requests", "Answers to infer by status code.", ["code"], registry=self.registry)
        self.queue_depth = Gauge("cycle_queue_texts", "Texts that wait.", registry=self.registry)
        self.in_flight = Gauge("cycle_requests_in_flight", "Requests being answered.", registry=self.registry)
        self.ready = Gauge("cycle_ready", "1 when the server takes requests.", registry=self.registry)
        self.startup = Gauge("cycle_startup_seconds", "From process start to ready.", registry=self.registry)

    def expose(self) -> bytes:
        return generate_latest(self.registry)
