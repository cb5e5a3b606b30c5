"""The Job that measures a class anew for a service, and the CycleProfiles that come of it. Pure."""

from collections.abc import Sequence

from cycle_wire.profile import Profile
from cycle_wire.reports import AUDIENCE, EXIT_BAD_INPUT, ProfileReport
from cycle_wire.serving import ProfileVariant, ProfilingConfig
from cycle_wire.training import JobIdentity, ReportTarget
from cycleops.api.cores import device_of, server_threads_of, server_workers_of
from cycleops.api.cycleprofile import CycleProfile, CycleProfileSpec, ProfileSource
from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.api.cycleservice_status import Remeasurement, ServedModel
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.api.hashes import hardware_class_hash
from cycleops.api.uri import MOUNT_ROOT, parse_uri
from cycleops.controller.children import child_labels
from cycleops.controller.inbox import Delivery
from cycleops.controller.kinds import CONFIG_MAP, CYCLE_PROFILE, JOB, SERVICE_LABEL
from cycleops.controller.reconcile import Owner
from cycleops.service.children import PROFILE_ROLE, Body, Names, child, short_hash
from cycleops.service.pods import container, pod_template
from cycleops.service.server import placement_of, resources_of

_TOKEN_SECONDS = 3600
_BACKOFF_LIMIT = 1


def measuring_children(
    *,
    owner: Owner,
    spec: CycleServiceSpec,
    run: Remeasurement,
    model: ServedModel,
    profiles: Sequence[CycleProfile],
    hardware_class: str,
    hardware: HardwareClassSpec,
    image: str,
    report_url: str,
    authority: str,
) -> list[Body]:
    """ConfigMap and Job. ``profiles``: those to make again, all of ``hardware_class`` and with a source."""
    name = Names(owner.name).measuring(run=run.run, hardware=hardware_class)
    of_profiles = [profile.spec.source for profile in profiles if profile.spec.source is not None]
    sources = sorted(of_profiles, key=lambda source: source.variant.name)
    config = ProfilingConfig(
        job=JobIdentity(kind="CycleService", namespace=owner.namespace, name=owner.name, uid=owner.uid),
        model_digest=model.digest,
        variants=[
            ProfileVariant(variant=source.variant, path=_variant_path(model, source.variant.name)) for source in sources
        ],
        evaluation_path=str(parse_uri(sources[0].data).container_path),
        fields=sources[0].fields,
        evaluation=sources[0].evaluation,
        batch_sizes=run.batch_sizes,
        sequence_lengths=run.sequence_lengths,
        hardware_class=hardware_class,
        hardware_class_hash=hardware_class_hash(hardware),
        image=image,
        workers=server_workers_of(hardware),
        threads=server_threads_of(hardware),
        device=device_of(hardware),
        report=ReportTarget(url=report_url),
    )
    data = {"config.json": config.to_json(), "ca.crt": authority}
    job = _job(owner, spec, hardware, image, name, claims=_claims(model, sources[0]))
    return [
        child(owner=owner, kind=CONFIG_MAP, name=name, role=PROFILE_ROLE, data=data),
        child(owner=owner, kind=JOB, name=name, role=PROFILE_ROLE, spec=job),
    ]


def _variant_path(model: ServedModel, variant: str) -> str:
    return str(parse_uri(model.uri).joined("variants", variant).container_path)


def _claims(model: ServedModel, source: ProfileSource) -> list[str]:
    return sorted({parse_uri(model.uri).claim, parse_uri(source.data).claim})


def _job(
    owner: Owner, spec: CycleServiceSpec, hardware: HardwareClassSpec, image: str, name: str, *, claims: list[str]
) -> Body:
    """One pod, tried once more, but not when its input is wrong; it ends at its deadline, wherever it is."""
    token = {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": _TOKEN_SECONDS, "path": "token"}}
    volumes: list[Body] = [
        {"name": "config", "configMap": {"name": name}},
        {"name": "report-token", "projected": {"sources": [token]}},
        *(
            {"name": f"claim-{i}", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
            for i, claim in enumerate(claims)
        ),
    ]
    mounts: list[Body] = [
        {"name": "config", "mountPath": "/etc/cycleops", "readOnly": True},
        {"name": "report-token", "mountPath": ReportTarget().token_path.rsplit("/", 1)[0], "readOnly": True},
        *(
            {"name": f"claim-{i}", "mountPath": str(MOUNT_ROOT / claim), "readOnly": True}
            for i, claim in enumerate(claims)
        ),
    ]
    threads = str(server_threads_of(hardware))
    template = pod_template(
        labels=child_labels(owner=owner, label=SERVICE_LABEL, role=PROFILE_ROLE),
        annotations={},
        template=spec.pod_template,
        containers=[
            container(
                name=PROFILE_ROLE,
                image=image,
                template=spec.pod_template,
                mounts=mounts,
                command=["cycle-server", "profile"],
                env=[{"name": "OMP_NUM_THREADS", "value": threads}],
                resources=resources_of(hardware),
            )
        ],
        volumes=volumes,
        grace_seconds=10,
        tolerations=[toleration.to_dict() for toleration in hardware.tolerations or []],
        restartPolicy="Never",
        **placement_of(hardware),
    )
    bad_input = {"containerName": PROFILE_ROLE, "operator": "In", "values": [EXIT_BAD_INPUT]}
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    return {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": _BACKOFF_LIMIT,
        "activeDeadlineSeconds": spec.remeasure.deadline_seconds,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {"action": "FailJob", "onExitCodes": bad_input},
                {"action": "Ignore", "onPodConditions": [disrupted]},
            ]
        },
        "suspend": False,
        "template": template,
    }


def profile_name(service: str, measured: Profile) -> str:
    """Of the CycleProfile. The time is in it: the same conditions were measured before."""
    conditions = (
        *(measured.model_digest, measured.variant, measured.hardware_class, measured.hardware_class_hash),
        *(measured.image, measured.server_settings_hash, measured.measured_at.isoformat()),
    )
    return f"{service}-{measured.variant}-{measured.hardware_class}-{short_hash(*conditions)[:8]}"


def new_profiles(*, owner: Owner, profiles: Sequence[CycleProfile], deliveries: Sequence[Delivery]) -> list[Body]:
    """CycleProfiles that pods have just reported, without an owner. ``profiles``: those that they supersede."""
    result = []
    for delivery in deliveries:
        if not isinstance(delivery.message, ProfileReport):
            continue
        measured = delivery.message.profile
        place = (measured.model_digest, measured.variant, measured.hardware_class)
        old = (p.spec for p in profiles if (p.spec.model_digest, p.spec.variant, p.spec.hardware_class) == place)
        before = next(old, None)
        spec = CycleProfileSpec(
            **measured.model_dump(),
            job=before.job if before is not None else None,
            source=before.source if before is not None else None,
            service=owner.name,
        )
        metadata = {
            "name": profile_name(owner.name, measured),
            "namespace": owner.namespace,
            "labels": child_labels(owner=owner, label=SERVICE_LABEL),
        }
        kind = CYCLE_PROFILE
        result.append({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec.to_dict()})
    return result
