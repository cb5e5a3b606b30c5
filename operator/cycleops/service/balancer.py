"""The balancer: two HAProxy pods behind the Service that clients know. Pure."""

import math

from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.controller.children import child_labels
from cycleops.controller.kinds import CONFIG_MAP, DEPLOYMENT, POD_DISRUPTION_BUDGET, SERVICE, SERVICE_LABEL
from cycleops.controller.reconcile import Owner
from cycleops.service.children import BALANCER_ROLE, CONFIG_HASH_ANNOTATION, Body, Names, child, selector, short_hash
from cycleops.service.haproxy import ADMIN_PORT, HTTP_PORT, Balancer, render
from cycleops.service.pods import container, http_probe, pod_template

REPLICAS = 2
DRAIN_SECONDS = 25
# kube-proxies learn that a balancer leaves while it still listens.
LEAVE_SECONDS = 5
# As many requests as one server lets wait; beyond that the balancer's own short queue begins.
CONNECTIONS_PER_POD = 256
_CONFIG_FOLDER = "/etc/haproxy"


def balancer_children(
    *, owner: Owner, spec: CycleServiceSpec, budget_milliseconds: float, image: str, cluster_domain: str
) -> list[Body]:
    """ConfigMap, Deployment, disruption budget, and the Service NAME. None of it follows the plan, but the budget."""
    names = Names(owner.name)
    text = render(_settings(owner, spec, names, budget_milliseconds, cluster_domain))
    data = {"haproxy.cfg": text}
    budget = {"maxUnavailable": 1, "selector": {"matchLabels": selector(owner=owner, role=BALANCER_ROLE)}}
    deployment = _deployment(owner, spec, image, config_hash=short_hash(text))
    return [
        child(owner=owner, kind=CONFIG_MAP, name=names.balancer, role=BALANCER_ROLE, data=data),
        child(owner=owner, kind=DEPLOYMENT, name=names.balancer, role=BALANCER_ROLE, spec=deployment),
        child(owner=owner, kind=POD_DISRUPTION_BUDGET, name=names.balancer, role=BALANCER_ROLE, spec=budget),
        _front(owner),
    ]


def _settings(
    owner: Owner, spec: CycleServiceSpec, names: Names, budget_milliseconds: float, cluster_domain: str
) -> Balancer:
    return Balancer(
        algorithm=spec.load_balancing.algorithm,
        pods_name=f"{names.pods}.{owner.namespace}.svc.{cluster_domain}",
        slots=spec.replicas.maximum + max(4, spec.replicas.maximum // 4),  # room for a rolling update
        budget_milliseconds=math.ceil(budget_milliseconds),
        connections_per_pod=CONNECTIONS_PER_POD,
        drain_seconds=DRAIN_SECONDS,
    )


def _front(owner: Owner) -> Body:
    port = {"name": "http", "port": 80, "targetPort": HTTP_PORT, "protocol": "TCP", "appProtocol": "http"}
    spec = {"type": "ClusterIP", "selector": selector(owner=owner, role=BALANCER_ROLE), "ports": [port]}
    return child(owner=owner, kind=SERVICE, name=owner.name, role=BALANCER_ROLE, spec=spec)


def _deployment(owner: Owner, spec: CycleServiceSpec, image: str, *, config_hash: str) -> Body:
    template = pod_template(
        labels=child_labels(owner=owner, label=SERVICE_LABEL, role=BALANCER_ROLE),
        annotations={CONFIG_HASH_ANNOTATION: config_hash},
        template=spec.pod_template,
        containers=[_container(spec, image)],
        volumes=[{"name": "config", "configMap": {"name": Names(owner.name).balancer}}],
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


def _container(spec: CycleServiceSpec, image: str) -> Body:
    return container(
        name="haproxy",
        image=image,
        template=spec.pod_template,
        mounts=[{"name": "config", "mountPath": _CONFIG_FOLDER, "readOnly": True}],
        command=["haproxy", "-db", "-f", f"{_CONFIG_FOLDER}/haproxy.cfg"],
        ports=[
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        resources={"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
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
