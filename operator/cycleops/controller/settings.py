"""The operator's settings: everything comes from the environment, as the chart sets it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

REPORT_SECRET = "cycleops-report-tls"
REPORT_SERVICE = "cycleops-report"


@dataclass(frozen=True, slots=True)
class Settings:
    """``namespace`` is the operator's own; ``report_url`` is where pods send their reports."""

    namespace: str
    report_url: str
    trainer_image: str
    server_image: str
    balancer_image: str
    cache_image: str
    report_port: int = 8443
    metrics_port: int = 8080
    workers: int = 32
    resync_seconds: float = 420.0
    drain_seconds: float = 20.0
    log_level: str = "INFO"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Raises KeyError naming a variable that is missing, ValueError for one that is not a number."""
        env = os.environ if environment is None else environment
        namespace = env["CYCLEOPS_NAMESPACE"]
        port = int(env.get("CYCLEOPS_REPORT_PORT", "8443"))
        return cls(
            namespace=namespace,
            report_url=env.get("CYCLEOPS_REPORT_URL") or f"https://{REPORT_SERVICE}.{namespace}.svc:8443/v1/report",
            trainer_image=env["CYCLEOPS_TRAINER_IMAGE"],
            server_image=env["CYCLEOPS_SERVER_IMAGE"],
            balancer_image=env["CYCLEOPS_BALANCER_IMAGE"],
            cache_image=env["CYCLEOPS_CACHE_IMAGE"],
            report_port=port,
            metrics_port=int(env.get("CYCLEOPS_METRICS_PORT", "8080")),
            workers=int(env.get("CYCLEOPS_WORKERS", "32")),
            resync_seconds=float(env.get("CYCLEOPS_RESYNC_SECONDS", "420")),
            drain_seconds=float(env.get("CYCLEOPS_DRAIN_SECONDS", "20")),
            log_level=env.get("CYCLEOPS_LOG_LEVEL", "INFO"),
        )

    @property
    def report_hosts(self) -> tuple[str, ...]:
        """Names the report server's certificate is made out to."""
        host = urlsplit(self.report_url).hostname or "localhost"
        service = f"{REPORT_SERVICE}.{self.namespace}.svc"
        return tuple(dict.fromkeys((host, service, f"{service}.cluster.local", "localhost", "127.0.0.1")))
