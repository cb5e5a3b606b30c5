"""What all children have in common: names, labels, and the reference that lets the garbage collector find them."""

from typing import Any

from cycleops.controller.kinds import MANAGED_BY_LABEL, MANAGER, ROLE_LABEL, Kind
from cycleops.controller.reconcile import Owner

SELECTOR = f"{MANAGED_BY_LABEL}={MANAGER}"


def child_labels(*, owner: Owner, label: str, role: str | None = None) -> dict[str, str]:
    """``label`` is JOB_LABEL or SERVICE_LABEL. The owner's own labels are never copied: Argo CD would prune by them."""
    labels = {MANAGED_BY_LABEL: MANAGER, label: owner.name}
    return labels if role is None else {**labels, ROLE_LABEL: role}


def child_metadata(*, owner: Owner, kind: Kind, name: str, label: str, role: str | None = None) -> dict[str, Any]:
    """Metadata of a child called ``name`` that the owner, of ``kind``, controls."""
    reference = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": child_labels(owner=owner, label=label, role=role),
        "ownerReferences": [reference],
    }
