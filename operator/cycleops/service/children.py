"""Names and metadata of a service's children."""

import hashlib
from dataclasses import dataclass
from typing import Any

from cycleops.controller.children import child_metadata
from cycleops.controller.kinds import CYCLE_SERVICE, ROLE_LABEL, SERVICE_LABEL, Kind
from cycleops.controller.reconcile import Owner

Body = dict[str, Any]
SERVER_ROLE, BALANCER_ROLE, CACHE_ROLE, PROFILE_ROLE = "server", "balancer", "cache", "profile"
_LONGEST = 63  # a Job's name becomes a label of its pods
CONFIG_HASH_ANNOTATION = "cycleops.dev/config-hash"


@dataclass(frozen=True, slots=True)
class Names:
    """Deterministic names of the children of the CycleService called ``service``."""

    service: str

    @property
    def server(self) -> str:
        return f"{self.service}-server"

    @property
    def config(self) -> str:
        # A CycleJob of the same name has NAME-config.
        return f"{self.service}-serving"

    @property
    def pods(self) -> str:
        """The headless Service that the balancer finds pods by."""
        return f"{self.service}-pods"

    @property
    def balancer(self) -> str:
        return f"{self.service}-balancer"

    @property
    def cache(self) -> str:
        return f"{self.service}-cache"

    def measuring(self, *, run: int, hardware: str) -> str:
        """Of the Job that measures a class anew, and of its ConfigMap; two long names are told apart by a hash."""
        name = f"{self.service}-measure-{run}-{hardware}"
        return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 9].rstrip('-')}-{short_hash(name)[:8]}"


def child(*, owner: Owner, kind: Kind, name: str, role: str, annotations: Body | None = None, **fields: Any) -> Body:
    """A child's body. ``fields`` stand beside its metadata."""
    metadata = child_metadata(owner=owner, kind=CYCLE_SERVICE, name=name, label=SERVICE_LABEL, role=role)
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **fields}


def selector(*, owner: Owner, role: str) -> dict[str, str]:
    return {SERVICE_LABEL: owner.name, ROLE_LABEL: role}


def short_hash(*texts: str) -> str:
    """Changes when any text does; on a pod template it rolls the pods."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
