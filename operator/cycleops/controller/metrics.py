"""The loop's own metrics. No label holds a user object's name."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)

RECONCILES = Counter("cycleops_reconcile_total", "Passes over a user object.", ["kind", "result"])
RECONCILE_SECONDS = Histogram("cycleops_reconcile_seconds", "Duration of a pass.", ["kind"], buckets=_SECONDS)
QUEUE_DEPTH = Gauge("cycleops_queue_depth", "Keys that are due and wait for a worker.")
QUEUE_WAIT = Histogram("cycleops_queue_wait_seconds", "From due to started.", buckets=_SECONDS)
QUEUE_RETRIES = Counter("cycleops_queue_retries_total", "Passes that failed and were put back with a delay.")
WRITES = Counter("cycleops_api_writes_total", "Writes to the API server.", ["kind", "verb"])
EVENTS = Counter("cycleops_watch_events_total", "Watch events received.", ["kind"])
STORED = Gauge("cycleops_stored_objects", "Objects whose facts are kept.", ["kind"])
TRAINING_SECONDS = Counter(
    "cycleops_training_seconds_total", "Where the seconds of trainings went (status.goodput of CycleJobs).", ["part"]
)
REPORTS = Counter("cycleops_reports_total", "Reports from pods, by the status they were answered.", ["message", "code"])
