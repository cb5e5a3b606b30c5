"""Pods of a CycleJob: restricted, with what the HardwareClass asks for and the user adds. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cycle_wire.reports import AUDIENCE
from cycle_wire.training import ReportTarget
from cycleops.api.cores import threads_of
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.api.pods import PodTemplate
from cycleops.api.uri import MOUNT_ROOT
from cycleops.controller.children import child_labels
from cycleops.controller.kinds import JOB_LABEL
from cycleops.job import names
from cycleops.job.observation import Observation

Body = dict[str, Any]
USER_ID = 1000
CONFIG_FOLDER = "/etc/cycleops"
SSH_FOLDER = "/etc/cycleops-ssh"
PRIVATE_KEY, PUBLIC_KEY = "ssh-privatekey", "ssh-publickey"
TOKEN_SECONDS = 3600
SMALL: Body = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}


@dataclass(frozen=True, slots=True)
class Role:
    """What tells the pods of one Job from those of another. ``hardware`` None: a small pod, anywhere."""

    name: str
    image: str
    command: Sequence[str]
    config_map: str
    hardware: HardwareClassSpec | None
    threads: int
    restart: str = "Never"
    keys: tuple[str, ...] = ()  # of the SSH Secret; the workers need not know the private one
    shared_memory: bool = False
    subdomain: str | None = None
    probe: Mapping[str, Any] | None = None


def pod_template(o: Observation, role: Role) -> Body:
    """A PodTemplateSpec that meets Pod Security ``restricted``."""
    user = o.spec.pod_template or PodTemplate()
    labels = {**(user.labels or {}), **child_labels(owner=o.owner, label=JOB_LABEL, role=role.name)}
    metadata: Body = {"labels": labels}
    if user.annotations:
        metadata["annotations"] = dict(user.annotations)
    spec: Body = {
        "restartPolicy": role.restart,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(o, role, user)],
        "volumes": [*_volumes(o, role), *_dicts(user.volumes)],
        **_placement(role.hardware, user),
    }
    if role.subdomain is not None:
        spec["subdomain"] = role.subdomain
    if user.service_account_name is not None:
        spec["serviceAccountName"] = user.service_account_name
    if user.image_pull_secrets:
        spec["imagePullSecrets"] = _dicts(user.image_pull_secrets)
    return {"metadata": metadata, "spec": spec}


def _container(o: Observation, role: Role, user: PodTemplate) -> Body:
    env = [{"name": "HOME", "value": "/home/cycle"}, {"name": "OMP_NUM_THREADS", "value": str(role.threads)}]
    container: Body = {
        "name": role.name,
        "image": role.image,
        "command": list(role.command),
        "env": [*env, *_dicts(user.env)],
        "resources": _resources(role.hardware),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [*_mounts(o, role), *_dicts(user.volume_mounts)],
    }
    if role.probe is not None:
        container["readinessProbe"] = dict(role.probe)
    return container


def _resources(hardware: HardwareClassSpec | None) -> Body:
    if hardware is None:
        return SMALL
    requests, limits = dict(hardware.resources.requests), dict(hardware.resources.limits or {})
    if hardware.accelerator is not None:
        limits[hardware.accelerator.resource] = str(hardware.accelerator.count)
    return {"requests": requests, "limits": limits} if limits else {"requests": requests}


def _placement(hardware: HardwareClassSpec | None, user: PodTemplate) -> Body:
    tolerations = [*_dicts(hardware.tolerations if hardware else None), *_dicts(user.tolerations)]
    result: Body = {"tolerations": tolerations} if tolerations else {}
    if hardware is not None and hardware.node_selector:
        result["nodeSelector"] = dict(hardware.node_selector)
    if hardware is not None and hardware.runtime_class_name is not None:
        result["runtimeClassName"] = hardware.runtime_class_name
    if user.affinity is not None:
        result["affinity"] = user.affinity.to_dict()
    if user.priority_class_name is not None:
        result["priorityClassName"] = user.priority_class_name
    return result


def _volumes(o: Observation, role: Role) -> list[Body]:
    token = {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}}
    volumes: list[Body] = [
        {"name": "config", "configMap": {"name": role.config_map}},
        {"name": "report-token", "projected": {"sources": [token]}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "home", "emptyDir": {}},
    ]
    for index, claim in enumerate(o.claims_of_spec()):
        volumes.append({"name": f"claim-{index}", "persistentVolumeClaim": {"claimName": claim}})
    if role.keys:
        items = [{"key": key, "path": key} for key in role.keys]
        secret = {"secretName": names.ssh_secret(o.name), "defaultMode": 0o440, "items": items}
        volumes.append({"name": "ssh", "secret": secret})
    if role.shared_memory:
        volumes.append({"name": "shared-memory", "emptyDir": {"medium": "Memory"}})
    return volumes


def _mounts(o: Observation, role: Role) -> list[Body]:
    token_folder = ReportTarget().token_path.rsplit("/", 1)[0]
    mounts: list[Body] = [
        {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
        {"name": "report-token", "mountPath": token_folder, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "home", "mountPath": "/home/cycle"},
    ]
    for index, claim in enumerate(o.claims_of_spec()):
        mounts.append({"name": f"claim-{index}", "mountPath": str(MOUNT_ROOT / claim)})
    if role.keys:
        mounts.append({"name": "ssh", "mountPath": SSH_FOLDER, "readOnly": True})
    if role.shared_memory:
        mounts.append({"name": "shared-memory", "mountPath": "/dev/shm"})
    return mounts


def _dicts(items: Sequence[Any] | None) -> list[Body]:
    return [item.to_dict() for item in items or ()]


def worker(o: Observation, *, image: str) -> Role:
    """With a launcher, sshd for mpirun to start ranks through; else the worker's own ranks.

    sshd restarts in place, so that name and claims stay. Ranks fail with their pod: its exit code is theirs.
    """
    hardware = o.classes[o.spec.workers.hardware]
    role = Role(
        name="worker",
        image=image,
        command=("cycle-trainer", "ranks"),
        config_map=names.config_map(o.name),
        hardware=hardware,
        threads=max(1, threads_of(hardware) // o.slots_per_host),
        shared_memory=True,
        subdomain=names.workers_service(o.name),
    )
    if not o.spec.workers.has_launcher:
        return role
    probe = {"tcpSocket": {"port": 2222}, "periodSeconds": 5, "timeoutSeconds": 2}
    return replace(role, command=("cycle-trainer", "worker"), restart="OnFailure", keys=(PUBLIC_KEY,), probe=probe)
