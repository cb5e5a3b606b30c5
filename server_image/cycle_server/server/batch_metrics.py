"""What the batcher does, as metrics. No label names a tenant: there may be any number of them."""

from prometheus_client import Counter, Gauge

from cycle_server.batching.errors import ShedReason
from cycle_server.batching.observer import Observer
from cycle_server.server.metrics import ServerMetrics


class BatchMetrics(Observer):
    """Adds cycle_shed_total, cycle_compute_faults_total and what processes compute to the server's metrics."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._batch_size = metrics.batch_size
        shed = Counter("cycle_shed", "Requests refused or given up.", ["reason"], registry=metrics.registry)
        faults = Counter("cycle_compute_faults", "Batches that failed.", ["kind"], registry=metrics.registry)
        self._processes = Gauge(
            "cycle_compute_processes", "Processes that compute; 0: the server itself does.", registry=metrics.registry
        )
        self._lost = Counter(
            "cycle_compute_processes_lost", "Processes that ended or were given up.", registry=metrics.registry
        )
        self._shed = {reason: shed.labels(reason.value) for reason in ShedReason}
        self._faults = {True: faults.labels("memory"), False: faults.labels("error")}

    def batch(self, *, texts: int, seconds: float) -> None:  # noqa: ARG002 - the terms' histograms have the time
        self._batch_size.observe(texts)

    def shed(self, reason: ShedReason) -> None:
        self._shed[reason].inc()

    def fault(self, *, out_of_memory: bool) -> None:
        self._faults[out_of_memory].inc()

    def processes(self, running: int, *, lost: bool) -> None:
        self._processes.set(running)
        self._lost.inc(lost)
