"""What the sidecar exports on /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from cycle_wire.buckets import time_buckets

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series


class SidecarMetrics:
    """Outcomes: hit, miss, coalesced (waited for another's miss), bypass."""

    def __init__(self, *, target_milliseconds: float = 1000.0) -> None:
        self.registry = CollectorRegistry()
        buckets = time_buckets(target_milliseconds)
        ProcessCollector(registry=self.registry)
        self.request = Histogram(
            "cycle_request_seconds",
            "From the request's arrival in the pod to its answer.",
            ["outcome"],
            buckets=buckets,
            registry=self.registry,
        )
        self.cache = Histogram(
            "cycle_cache_seconds",
            "The sidecar's own part of it.",
            ["outcome"],
            buckets=buckets,
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
