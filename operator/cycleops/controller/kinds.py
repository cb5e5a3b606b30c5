"""The Kubernetes kinds the operator reads or writes, and the labels that tie children to their owner."""

from dataclasses import dataclass

GROUP = "cycleops.dev"
FIELD_MANAGER = "cycleops"
JOB_LABEL = f"{GROUP}/job"
SERVICE_LABEL = f"{GROUP}/service"
ROLE_LABEL = f"{GROUP}/role"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGER = "cycleops"


@dataclass(frozen=True, slots=True)
class Kind:
    """Where a kind lives in the API: ``group`` is empty for the core group."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, *, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of an object, or of the list when ``name`` is None (every namespace when ``namespace`` is None)."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/".join(parts)


CYCLE_JOB = Kind(GROUP, "v1alpha1", "CycleJob", "cyclejobs")
CYCLE_SERVICE = Kind(GROUP, "v1alpha1", "CycleService", "cycleservices")
CYCLE_PROFILE = Kind(GROUP, "v1alpha1", "CycleProfile", "cycleprofiles")
HARDWARE_CLASS = Kind(GROUP, "v1alpha1", "HardwareClass", "hardwareclasses", namespaced=False)
JOB = Kind("batch", "v1", "Job", "jobs")
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
SERVICE = Kind("", "v1", "Service", "services")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
SECRET = Kind("", "v1", "Secret", "secrets")
POD = Kind("", "v1", "Pod", "pods")
CLAIM = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
POD_DISRUPTION_BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
EVENT = Kind("", "v1", "Event", "events")
TOKEN_REVIEW = Kind("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", namespaced=False)

CHILD_KINDS = (JOB, DEPLOYMENT, SERVICE, CONFIG_MAP, SECRET, POD_DISRUPTION_BUDGET)
BY_KIND = {kind.kind: kind for kind in (*CHILD_KINDS, CYCLE_JOB, CYCLE_SERVICE, CYCLE_PROFILE, HARDWARE_CLASS)}
