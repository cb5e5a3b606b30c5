"""The balancer: two HAProxy pods behind the Service that clients know. Pure."""

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.controller.children import child_labels
from cycleops.controller.kinds import CONFIG_MAP, DEPLOYMENT, POD_DISRUPTION_BUDGET, SERVICE, SERVICE_LABEL
from cycleops.controller.reconcile import Owner
from cycleops.service.children import BALANCER_ROLE, CONFIG_HASH_ANNOTATION, Body, Names, child, selector, short_hash
from cycleops.service.deployed import Deployed
from cycleops.service.haproxy import (
    ADMIN_PORT,
    CONFIG_FOLDER,
    GRPC_PORT,
    HTTP_PORT,
    STARTED_PATH,
    Balancer,
    render,
    render_pages,
)
from cycleops.service.haproxy_door import CERTIFICATE_FILE, KEYS_FILE, Door
from cycleops.service.pods import container, http_probe, pod_template

REPLICAS = 2
DRAIN_SECONDS = 25
# kube-proxies learn that a balancer leaves while it still listens.
LEAVE_SECONDS = 5
# A first server pod may take long (its image, its model); to start HAProxy again meanwhile would help nobody.
STARTS_WITHIN_SECONDS = 86_400
# As many requests as one server lets wait; beyond that the balancer's own short queue begins.
CONNECTIONS_PER_POD = 256


def balancer_children(
    *,
    owner: Owner,
    spec: CycleServiceSpec,
    deployed: Deployed,
    image: str,
    cluster_domain: str,
    secrets: Mapping[str, str],
) -> list[Body]:
    """ConfigMap, Deployment, disruption budget, and the Service NAME. None of it follows the plan, but the budget.

    ``secrets``: versions by name. HAProxy reads certificate and keys when it starts, so a new version rolls the pods.
    """
    names = Names(owner.name)
    settings = _settings(owner, spec, names, deployed, cluster_domain)
    data = {"haproxy.cfg": render(settings), **render_pages(settings)}
    budget = {"maxUnavailable": 1, "selector": {"matchLabels": selector(owner=owner, role=BALANCER_ROLE)}}
    deployment = _deployment(owner, spec, image, config_hash=short_hash(*data.values(), *secrets.values()))
    return [
        child(owner=owner, kind=CONFIG_MAP, name=names.balancer, role=BALANCER_ROLE, data=data),
        child(owner=owner, kind=DEPLOYMENT, name=names.balancer, role=BALANCER_ROLE, spec=deployment),
        child(owner=owner, kind=POD_DISRUPTION_BUDGET, name=names.balancer, role=BALANCER_ROLE, spec=budget),
        _front(owner, spec),
    ]


def secret_names(spec: CycleServiceSpec) -> list[str]:
    """Secrets that the balancers mount."""
    references = (spec.tls and spec.tls.secret_ref, spec.auth and spec.auth.api_key_secret_ref)
    return [reference.name for reference in references if reference]


def _settings(owner: Owner, spec: CycleServiceSpec, names: Names, deployed: Deployed, cluster_domain: str) -> Balancer:
    return Balancer(
        algorithm=spec.load_balancing.algorithm,
        pods_name=f"{names.pods}.{owner.namespace}.svc.{cluster_domain}",
        slots=spec.replicas.maximum + max(4, spec.replicas.maximum // 4),  # room for a rolling update
        budget_milliseconds=math.ceil(deployed.budget_milliseconds),
        target_milliseconds=deployed.target_milliseconds,
        connections_per_pod=CONNECTIONS_PER_POD,
        drain_seconds=DRAIN_SECONDS,
        door=Door(
            certificate_file=CERTIFICATE_FILE if spec.tls else "",
            keys_file=KEYS_FILE if spec.auth else "",
        ),
        grpc_port=GRPC_PORT if spec.grpc else 0,
    )


def _front(owner: Owner, spec: CycleServiceSpec) -> Body:
    name, number = ("https", 443) if spec.tls else ("http", 80)
    ports: list[Body] = [
        {"name": name, "port": number, "targetPort": HTTP_PORT, "protocol": "TCP", "appProtocol": name}
    ]
    if spec.grpc:
        protocol = "https" if spec.tls else "kubernetes.io/h2c"
        grpc = {"name": "grpc", "port": spec.grpc.port, "targetPort": GRPC_PORT, "protocol": "TCP"}
        ports.append({**grpc, "appProtocol": protocol})
    body = {"type": "ClusterIP", "selector": selector(owner=owner, role=BALANCER_ROLE), "ports": ports}
    return child(owner=owner, kind=SERVICE, name=owner.name, role=BALANCER_ROLE, spec=body)


def _deployment(owner: Owner, spec: CycleServiceSpec, image: str, *, config_hash: str) -> Body:
    template = pod_template(
        labels=child_labels(owner=owner, label=SERVICE_LABEL, role=BALANCER_ROLE),
        annotations={CONFIG_HASH_ANNOTATION: config_hash},
        template=spec.pod_template,
        containers=[_container(spec, image)],
        volumes=[{"name": "config", "configMap": {"name": Names(owner.name).balancer}}, *_secret_volumes(spec)],
        grace_seconds=LEAVE_SECONDS + DRAIN_SECONDS + 5,
    )
    template["spec"].setdefault("affinity", _apart(owner))
    return {
        "replicas": REPLICAS,
        "revisionHistoryLimit": 2,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "selector": {"matchLabels": selector(owner=owner, role=BALANCER_ROLE)},
        "template": template,
    }


def _secret_volumes(spec: CycleServiceSpec) -> list[Body]:
    """Read-only for the pod's user alone (its group is the volume's)."""
    found = []
    if spec.tls:
        files = [("tls.crt", CERTIFICATE_FILE), ("tls.key", f"{CERTIFICATE_FILE}.key")]
        found.append(_secret_volume("tls", spec.tls.secret_ref.name, files))
    if spec.auth:
        found.append(_secret_volume("keys", spec.auth.api_key_secret_ref.name, [("keys", KEYS_FILE)]))
    return found


def _secret_volume(name: str, secret: str, files: Sequence[tuple[str, str]]) -> Body:
    items = [{"key": key, "path": PurePosixPath(file).name} for key, file in files]
    return {"name": name, "secret": {"secretName": secret, "items": items, "defaultMode": 0o440}}


def _secret_mounts(spec: CycleServiceSpec) -> list[Body]:
    wanted = (("tls", spec.tls, CERTIFICATE_FILE), ("keys", spec.auth, KEYS_FILE))
    return [
        {"name": name, "mountPath": str(PurePosixPath(file).parent), "readOnly": True}
        for name, asked, file in wanted
        if asked
    ]


def _container(spec: CycleServiceSpec, image: str) -> Body:
    grpc = [{"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"}] if spec.grpc else []
    return container(
        name="haproxy",
        image=image,
        template=spec.pod_template,
        mounts=[{"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True}, *_secret_mounts(spec)],
        command=["haproxy", "-db", "-f", f"{CONFIG_FOLDER}/haproxy.cfg"],
        ports=[
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            *grpc,
            {"name": "metrics", "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        resources={"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        startupProbe=http_probe(
            path=STARTED_PATH, port=ADMIN_PORT, periodSeconds=1, failureThreshold=STARTS_WITHIN_SECONDS
        ),
        readinessProbe=http_probe(path="/healthz", port=ADMIN_PORT, periodSeconds=2, timeoutSeconds=2),
        livenessProbe=http_probe(path="/healthz", port=ADMIN_PORT, periodSeconds=10, timeoutSeconds=5),
        lifecycle={"preStop": {"sleep": {"seconds": LEAVE_SECONDS}}},
    )


def _apart(owner: Owner) -> Body:
    """On two nodes if there are two."""
    labels = selector(owner=owner, role=BALANCER_ROLE)
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
