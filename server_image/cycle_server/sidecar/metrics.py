"""What the sidecar exports on /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from cycle_wire.buckets import time_buckets

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series

SHARED_TARGET_MILLISECONDS = 5.0  # around which lookups of the shared cache are told apart
OUTCOMES = ("hit", "miss", "coalesced", "bypass")


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
        self.answer_bytes = Counter(
            "cycle_answer_bytes", "Bytes of answers to infer by outcome.", ["outcome"], registry=self.registry
        )
        self.size_bytes = Gauge(
            "cycle_cache_bytes", "Size of the cached answers with their keys.", registry=self.registry
        )
        self.entries = Gauge("cycle_cache_entries", "Number of cached answers.", registry=self.registry)


class SharedMetrics:
    """Of the cache that pods share. Results of lookups: hit, miss, error, skipped (it is left alone)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lookups = Counter("cycle_shared_cache_lookups", "Lookups by result.", ["result"], registry=registry)
        self.stores = Counter(
            "cycle_shared_cache_stores", "Stores by result: stored, error, dropped.", ["result"], registry=registry
        )
        self.seconds = Histogram(
            "cycle_shared_cache_seconds",
            "Time of an answered lookup.",
            buckets=time_buckets(SHARED_TARGET_MILLISECONDS),
            registry=registry,
        )
        self.up = Gauge("cycle_shared_cache_up", "0 while it is left alone.", registry=registry)
