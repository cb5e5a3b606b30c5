"""The server pods: model server and cache sidecar. Pure."""

from cycle_wire.serving import ServerConfig, SidecarConfig
from cycleops.api.cores import device_of, server_threads_of, server_workers_of
from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.api.uri import MOUNT_ROOT, parse_uri
from cycleops.controller.children import child_labels
from cycleops.controller.kinds import CONFIG_MAP, DEPLOYMENT, POD_DISRUPTION_BUDGET, SERVICE, SERVICE_LABEL
from cycleops.controller.reconcile import Owner
from cycleops.service.cache import shared_config, sidecar_mounts, sidecar_volumes
from cycleops.service.children import CONFIG_HASH_ANNOTATION, SERVER_ROLE, Body, Names, child, selector, short_hash
from cycleops.service.deployed import ANNOTATION, Deployed
from cycleops.service.haproxy import POD_PORT, READY_PATH
from cycleops.service.pods import container, http_probe, pod_template
from cycleops.service.quantities import size_bytes

# From SIGTERM on both containers say that they are not ready, which the balancers see within two checks, and go on
# answering until no request came for a while; at most so long.
DRAIN_SECONDS = 20
LIVE_PATH = "/v2/health/live"
_KEY_VALUE_PART = 4  # of a pod's memory; the rest is for weights, activations and Python
_SIDECAR_MEMORY = 160 * 1024 * 1024  # Python, aiohttp and buffers, without the cached answers
_GRPC_MEMORY = 8 * 1024 * 1024  # protobuf and messages (measured: docs/notes/2026-11-25-protocols.md)
_MODEL_VOLUME = "model"


def server_children(
    *, owner: Owner, spec: CycleServiceSpec, deployed: Deployed, hardware: HardwareClassSpec, image: str
) -> list[Body]:
    """ConfigMap, headless Service, Deployment and, for more than one replica, disruption budget."""
    names = Names(owner.name)
    server = _server_config(owner, spec, deployed, hardware)
    sidecar = _sidecar_config(owner, spec, deployed, image)
    data = {"server.json": server.to_json(), "sidecar.json": sidecar.to_json()}
    result = [
        child(owner=owner, kind=CONFIG_MAP, name=names.config, role=SERVER_ROLE, data=data),
        _headless(owner, names),
        child(
            owner=owner,
            kind=DEPLOYMENT,
            name=names.server,
            role=SERVER_ROLE,
            annotations={ANNOTATION: deployed.to_json()},
            spec=_deployment(owner, spec, deployed, hardware, image, sidecar, config_hash=short_hash(*data.values())),
        ),
    ]
    return result + ([_disruption_budget(owner, names)] if deployed.replicas > 1 else [])


def _server_config(
    owner: Owner, spec: CycleServiceSpec, deployed: Deployed, hardware: HardwareClassSpec
) -> ServerConfig:
    tokens = spec.traffic.input_tokens
    lengths = {"warmup_sequence_lengths": sorted({tokens.p50, tokens.p99})} if tokens else {}
    limit = spec.traffic.tenant_limit
    tenants = (
        {"tenant_texts_per_second": float(limit.texts_per_second), "tenant_burst_texts": limit.burst_texts}
        if limit
        else {}
    )
    return ServerConfig(
        model_name=owner.name,
        variant_path=str(parse_uri(deployed.model_uri).joined("variants", deployed.variant).container_path),
        model_digest=deployed.model_digest,
        variant=deployed.variant,
        maximum_batch_size=deployed.batch_size,
        maximum_delay_milliseconds=deployed.delay_milliseconds,
        budget_milliseconds=deployed.budget_milliseconds,
        target_milliseconds=deployed.target_milliseconds,
        workers=server_workers_of(hardware),
        threads=server_threads_of(hardware),
        device=device_of(hardware),
        drain_seconds=DRAIN_SECONDS,
        key_value_bytes=_key_value_bytes(spec, hardware),
        **lengths,
        **tenants,
    )


def _key_value_bytes(spec: CycleServiceSpec, hardware: HardwareClassSpec) -> int | None:
    """Of generated text, a share of the memory that a pod asks for: a plan's sequences have room in it, or as many of
    them as do. None, the server's own number, where the spec doesn't speak of generated text.
    """
    generates = spec.traffic.output_tokens is not None or spec.budget.generation is not None
    memory = hardware.resources.requests.get("memory")
    return size_bytes(memory) // _KEY_VALUE_PART if generates and memory else None


def _sidecar_config(owner: Owner, spec: CycleServiceSpec, deployed: Deployed, image: str) -> SidecarConfig:
    cache = spec.cache.l1 if spec.cache else None
    kept = {"policy": cache.policy, "ttl_seconds": float(cache.ttl_seconds)} if cache else {}
    return SidecarConfig(
        grpc=spec.grpc is not None,
        model_digest=deployed.model_digest,
        variant=deployed.variant,
        size_bytes=size_bytes(cache.size) if cache else 0,
        cacheable=deployed.batch_invariant,
        target_milliseconds=deployed.target_milliseconds,
        shared=shared_config(owner, spec, server_image=image),
        drain_seconds=DRAIN_SECONDS,
        **kept,
    )


def _headless(owner: Owner, names: Names) -> Body:
    """Of ready pods only, which is the default: the API server drops a ``publishNotReadyAddresses: false``."""
    port = {"name": "http", "port": POD_PORT, "targetPort": POD_PORT, "protocol": "TCP"}
    spec = {
        "clusterIP": "None",
        "selector": selector(owner=owner, role=SERVER_ROLE),
        "ports": [port],
    }
    return child(owner=owner, kind=SERVICE, name=names.pods, role=SERVER_ROLE, spec=spec)


def _deployment(
    owner: Owner,
    spec: CycleServiceSpec,
    deployed: Deployed,
    hardware: HardwareClassSpec,
    image: str,
    sidecar: SidecarConfig,
    *,
    config_hash: str,
) -> Body:
    claim = parse_uri(deployed.model_uri).claim
    volumes = [
        {"name": "config", "configMap": {"name": Names(owner.name).config}},
        {"name": _MODEL_VOLUME, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}},
        *sidecar_volumes(owner, spec),
    ]
    template = pod_template(
        labels=child_labels(owner=owner, label=SERVICE_LABEL, role=SERVER_ROLE),
        annotations={CONFIG_HASH_ANNOTATION: config_hash},
        template=spec.pod_template,
        containers=[
            _server_container(spec, hardware, image, claim),
            _sidecar_container(spec, image, sidecar),
        ],
        volumes=volumes,
        grace_seconds=DRAIN_SECONDS + 10,
        tolerations=[toleration.to_dict() for toleration in hardware.tolerations or []],
        **placement_of(hardware),
    )
    return {
        "replicas": deployed.replicas,
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "selector": {"matchLabels": selector(owner=owner, role=SERVER_ROLE)},
        "template": template,
    }


def _server_container(spec: CycleServiceSpec, hardware: HardwareClassSpec, image: str, claim: str) -> Body:
    """It listens on the pod's loopback only, so the kubelet asks it through the sidecar."""
    threads = str(server_threads_of(hardware))
    return container(
        name="server",
        image=image,
        template=spec.pod_template,
        mounts=[
            {"name": "config", "mountPath": "/etc/cycleops", "readOnly": True},
            {"name": _MODEL_VOLUME, "mountPath": str(MOUNT_ROOT / claim), "readOnly": True},
        ],
        command=["cycle-server", "serve"],
        env=[{"name": name, "value": threads} for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")],
        resources=resources_of(hardware),
        startupProbe=http_probe(path=LIVE_PATH, port=POD_PORT, periodSeconds=2, failureThreshold=300, timeoutSeconds=2),
        livenessProbe=http_probe(path=LIVE_PATH, port=POD_PORT, periodSeconds=10, failureThreshold=6, timeoutSeconds=5),
    )


def _sidecar_container(spec: CycleServiceSpec, image: str, sidecar: SidecarConfig) -> Body:
    memory = str(_SIDECAR_MEMORY + sidecar.size_bytes + (_GRPC_MEMORY if sidecar.grpc else 0))
    return container(
        name="cache",
        image=image,
        template=spec.pod_template,
        mounts=[{"name": "config", "mountPath": "/etc/cycleops", "readOnly": True}, *sidecar_mounts(spec)],
        command=["cycle-server", "sidecar"],
        ports=[{"name": "http", "containerPort": POD_PORT, "protocol": "TCP"}],
        resources={"requests": {"cpu": "50m", "memory": memory}, "limits": {"memory": str(2 * int(memory))}},
        readinessProbe=http_probe(
            path=READY_PATH, port=POD_PORT, periodSeconds=2, failureThreshold=2, timeoutSeconds=2
        ),
    )


def placement_of(hardware: HardwareClassSpec) -> Body:
    """Fields of the spec of a pod on that class, beside tolerations."""
    placement: Body = {"nodeSelector": hardware.node_selector} if hardware.node_selector else {}
    if hardware.runtime_class_name:
        placement["runtimeClassName"] = hardware.runtime_class_name
    return placement


def resources_of(hardware: HardwareClassSpec) -> Body:
    """Of the container that computes."""
    result = hardware.resources.to_dict()
    if hardware.accelerator is not None:  # an extended resource stands in the limits
        count = str(hardware.accelerator.count)
        result["limits"] = {**result.get("limits", {}), hardware.accelerator.resource: count}
    return result


def _disruption_budget(owner: Owner, names: Names) -> Body:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": selector(owner=owner, role=SERVER_ROLE)}}
    return child(owner=owner, kind=POD_DISRUPTION_BUDGET, name=names.server, role=SERVER_ROLE, spec=spec)
