"""What every pod of a service has: Pod Security ``restricted``, a read-only root, and the user's curated additions."""

from collections.abc import Mapping, Sequence
from typing import Any

from cycleops.api.pods import PodTemplate

Body = dict[str, Any]
USER_ID = 1000

CONTAINER_SECURITY: Body = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
_POD_SECURITY: Body = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "fsGroup": USER_ID,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
_SCRATCH = ({"name": "tmp", "mountPath": "/tmp"}, {"name": "home", "mountPath": "/home/cycle"})


def container(*, name: str, image: str, template: PodTemplate | None, mounts: Sequence[Body], **fields: Any) -> Body:
    """A container with scratch space, ``mounts``, and the template's variables and mounts."""
    own_env: list[Body] = fields.pop("env", [])
    added = _as_stored(template)
    return {
        "name": name,
        "image": image,
        "securityContext": CONTAINER_SECURITY,
        "env": [{"name": "HOME", "value": "/home/cycle"}, *own_env, *added.get("env", [])],
        # What a pod said last, so that a condition can say it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [*_SCRATCH, *mounts, *added.get("volumeMounts", [])],
        **fields,
    }


def pod_template(
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    template: PodTemplate | None,
    containers: Sequence[Body],
    volumes: Sequence[Body],
    grace_seconds: int,
    tolerations: Sequence[Body] = (),
    **fields: Any,
) -> Body:
    """A PodTemplateSpec. ``fields`` are of the pod's spec; the operator's labels win over the template's."""
    added = _as_stored(template)
    spec: Body = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _POD_SECURITY,
        "terminationGracePeriodSeconds": grace_seconds,
        "containers": list(containers),
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "home", "emptyDir": {}},
            *volumes,
            *added.get("volumes", []),
        ],
        **fields,
    }
    tolerated = [*tolerations, *added.get("tolerations", [])]
    if tolerated:
        spec["tolerations"] = tolerated
    for name in ("serviceAccountName", "imagePullSecrets", "priorityClassName", "affinity"):
        if name in added:
            spec[name] = added[name]
    metadata = {
        "labels": {**added.get("labels", {}), **labels},
        "annotations": {**added.get("annotations", {}), **annotations},
    }
    return {"metadata": metadata, "spec": spec}


def _as_stored(template: PodTemplate | None) -> Body:
    """The template as the API server keeps it: fields that are false by default and said to be false are left out.

    Else each pass would find them missing and write them again.
    """
    result: Body = _without_false(template.to_dict()) if template is not None else {}
    return result


def _without_false(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_false(item) for key, item in value.items() if item is not False}
    return [_without_false(item) for item in value] if isinstance(value, list) else value


def http_probe(*, path: str, port: int, **fields: int) -> Body:
    return {"httpGet": {"path": path, "port": port}, **fields}
