"""The cache that a service's pods share: one Valkey when the operator manages it, and how the sidecars find it. Pure.

It holds copies only: one pod, no disk, gone is gone. Each service has its own, with a password of its own in a Secret
that is made once; the sidecars read the URL from a file, so nobody's configuration or log holds it.
"""

import base64

from cycle_wire.serving import SharedCacheConfig
from cycleops.api.cycleservice import CycleServiceSpec, SharedCache
from cycleops.controller.children import child_labels
from cycleops.controller.kinds import DEPLOYMENT, SECRET, SERVICE, SERVICE_LABEL
from cycleops.controller.reconcile import Owner
from cycleops.service.children import CACHE_ROLE, Body, Names, child, selector, short_hash
from cycleops.service.pods import container, pod_template
from cycleops.service.quantities import size_bytes

PORT = 6379
URL_KEY, AUTH_KEY = "url", "auth.conf"
_AUTH_FOLDER = "/etc/valkey"
_VOLUME = "shared-cache"
_MOUNT_PATH = "/etc/cycleops-cache"
_FILE_MODE = 0o440
# Of Valkey itself and of its clients' buffers; a fork for a snapshot, which would double it, never happens.
_OVERHEAD_BYTES = 64 * 1024 * 1024
_FRAGMENTATION = 1.5


def shared_cache_of(spec: CycleServiceSpec) -> SharedCache | None:
    return spec.cache.l2 if spec.cache else None


def shared_config(owner: Owner, spec: CycleServiceSpec, *, server_image: str) -> SharedCacheConfig | None:
    """``server_image``: another image may answer otherwise, so its pods share nothing with those before."""
    shared = shared_cache_of(spec)
    if shared is None:
        return None
    return SharedCacheConfig(
        url_path=f"{_MOUNT_PATH}/{URL_KEY}",
        scope=f"{owner.namespace}/{owner.name}/{short_hash(server_image)}",
        ttl_seconds=float(shared.ttl_seconds),
    )


def sidecar_volumes(owner: Owner, spec: CycleServiceSpec) -> list[Body]:
    """Optional: pods start without the Secret, and the sidecars look for it now and then."""
    shared = shared_cache_of(spec)
    if shared is None:
        return []
    url = shared.url_from
    name, key = (url.name, url.key) if url is not None else (Names(owner.name).cache, URL_KEY)
    items = [{"key": key, "path": URL_KEY}]
    secret = {"secretName": name, "optional": True, "defaultMode": _FILE_MODE, "items": items}
    return [{"name": _VOLUME, "secret": secret}]


def sidecar_mounts(spec: CycleServiceSpec) -> list[Body]:
    return [{"name": _VOLUME, "mountPath": _MOUNT_PATH, "readOnly": True}] if shared_cache_of(spec) else []


def cache_children(*, owner: Owner, spec: CycleServiceSpec, image: str, new_password: str | None) -> list[Body]:
    """``new_password`` is None when the Secret is there already: it is never written over."""
    shared = shared_cache_of(spec)
    if shared is None or not shared.managed:
        return []
    names = Names(owner.name)
    port = {"name": "redis", "port": PORT, "targetPort": PORT, "protocol": "TCP"}
    service = {"type": "ClusterIP", "selector": selector(owner=owner, role=CACHE_ROLE), "ports": [port]}
    children = [
        child(owner=owner, kind=SERVICE, name=names.cache, role=CACHE_ROLE, spec=service),
        child(
            owner=owner,
            kind=DEPLOYMENT,
            name=names.cache,
            role=CACHE_ROLE,
            spec=_deployment(owner, spec, image, maximum_bytes=size_bytes(shared.size)),
        ),
    ]
    return children if new_password is None else [_secret(owner, names, new_password), *children]


def _secret(owner: Owner, names: Names, password: str) -> Body:
    files = {
        URL_KEY: f"redis://:{password}@{names.cache}.{owner.namespace}.svc:{PORT}/0",
        AUTH_KEY: f"requirepass {password}\n",
    }
    data = {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}
    return child(owner=owner, kind=SECRET, name=names.cache, role=CACHE_ROLE, type="Opaque", immutable=True, data=data)


def _deployment(owner: Owner, spec: CycleServiceSpec, image: str, *, maximum_bytes: int) -> Body:
    auth = {"secretName": Names(owner.name).cache, "defaultMode": _FILE_MODE}
    template = pod_template(
        labels=child_labels(owner=owner, label=SERVICE_LABEL, role=CACHE_ROLE),
        annotations={},
        template=spec.pod_template,
        containers=[_container(spec, image, maximum_bytes=maximum_bytes)],
        volumes=[{"name": "auth", "secret": {**auth, "items": [{"key": AUTH_KEY, "path": AUTH_KEY}]}}],
        grace_seconds=5,
    )
    return {
        "replicas": 1,
        "revisionHistoryLimit": 2,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": selector(owner=owner, role=CACHE_ROLE)},
        "template": template,
    }


def _container(spec: CycleServiceSpec, image: str, *, maximum_bytes: int) -> Body:
    settings = {
        "--port": str(PORT),
        "--maxmemory": str(maximum_bytes),
        "--maxmemory-policy": "allkeys-lru",
        "--save": "",
        "--appendonly": "no",
        "--dir": "/tmp",
    }
    memory = str(int(maximum_bytes * _FRAGMENTATION) + _OVERHEAD_BYTES)
    probe = {"tcpSocket": {"port": PORT}, "periodSeconds": 5, "timeoutSeconds": 2}
    return container(
        name="valkey",
        image=image,
        template=spec.pod_template,
        mounts=[{"name": "auth", "mountPath": _AUTH_FOLDER, "readOnly": True}],
        command=["valkey-server", f"{_AUTH_FOLDER}/{AUTH_KEY}", *(part for pair in settings.items() for part in pair)],
        ports=[{"name": "redis", "containerPort": PORT, "protocol": "TCP"}],
        resources={"requests": {"cpu": "50m", "memory": memory}, "limits": {"memory": memory}},
        readinessProbe=probe,
        livenessProbe={**probe, "failureThreshold": 6},
    )
