"""What the sidecar exports on /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from cycle_server.server.metrics import TIME_BUCKETS


class SidecarMetrics:
    """Outcomes: hit, miss, coalesced (waited for another's miss), bypass."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.request = Histogram(
            "cycle_request_seconds",
            "From the request's arrival in the pod to its answer.",
            ["outcome"],
            buckets=TIME_BUCKETS,
            registry=self.registry,
        )
        self.cache = Histogram(
            "cycle_cache_seconds",
            "The sidecar's own part of it.",
            ["outcome"],
            buckets=TIME_BUCKETS,
            registry=self.registry,
        )
        self.requests = Counter(
            "cycle_requests",
            "Answers to infer by outcome and status code.",
            ["outcome", "code"],
            registry=self.registry,
        )
        self.size_bytes = Gauge("cycle_cache_bytes", "Size of the cached answers.", registry=self.registry)
        self.entries = Gauge("cycle_cache_entries", "Number of cached answers.", registry=self.registry)

    def expose(self) -> bytes:
        return generate_latest(self.registry)
