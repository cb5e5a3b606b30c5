"""The configuration files that a CycleJob's pods read, from spec, classes and evidence. Pure."""

from cycle_wire.metrics import evaluation_of
from cycle_wire.serving import ProfileVariant, ProfilingConfig
from cycle_wire.training import JobIdentity, ReportTarget, TrainingConfig, World
from cycleops.api.cores import device_of, server_threads_of, server_workers_of, threads_of
from cycleops.api.cyclejob import CycleJobSpec
from cycleops.api.cycleprofile import ProfileSource
from cycleops.api.hashes import hardware_class_hash
from cycleops.api.uri import parse_uri
from cycleops.job import names
from cycleops.job.observation import Observation


def trainer_image(o: Observation) -> str:
    """By spec, class, chart."""
    spec, hardware = o.spec.images, o.classes[o.spec.workers.hardware].images
    return (spec and spec.trainer) or (hardware and hardware.trainer) or o.environment.trainer_image


def server_image(o: Observation, *, hardware_class: str) -> str:
    """By spec, class, chart."""
    spec, hardware = o.spec.images, o.classes[hardware_class].images
    return (spec and spec.server) or (hardware and hardware.server) or o.environment.server_image


def hostfile(o: Observation) -> str:
    """In Open MPI's format."""
    hosts = names.worker_hosts(o.name, replicas=o.spec.workers.replicas)
    return "".join(f"{host} slots={o.slots_per_host}\n" for host in hosts)


def training_config(o: Observation, *, with_model: bool) -> TrainingConfig:
    """For workers and launcher; ``with_model`` for the compression, which needs to know what was trained."""
    spec = o.spec
    threads = threads_of(o.classes[spec.workers.hardware])
    return TrainingConfig(
        job=_identity(o),
        task=spec.task,
        model_path=_path(spec.model.uri),
        train_path=_path(spec.data.train),
        evaluation_path=_path(spec.data.evaluation),
        fields=spec.data.fields,
        output_path=_path(spec.output.uri),
        output_uri=str(parse_uri(spec.output.uri)),
        world=World(
            hosts=names.worker_hosts(o.name, replicas=spec.workers.replicas),
            slots_per_host=o.slots_per_host,
            backend=spec.workers.backend,
            transport=spec.workers.carrier,
            threads_per_rank=max(1, threads // o.slots_per_host),
        ),
        training=spec.training,
        evaluation=evaluation_of(spec.task, spec.evaluation),
        checkpoint=spec.run_policy.checkpoint,
        variants=spec.variants,
        report=ReportTarget(url=o.environment.report_url),
        model_digest=o.evidence.model.digest if with_model and o.evidence.model is not None else None,
    )


def profiling_config(o: Observation, *, hardware_class: str) -> ProfilingConfig:
    """For the measurement of every variant on one class. The model must have been reported."""
    spec, hardware, model = o.spec, o.classes[hardware_class], o.evidence.model
    if model is None:
        raise ValueError("nothing to measure: no model was reported")
    root = parse_uri(model.uri)
    return ProfilingConfig(
        job=_identity(o),
        model_digest=model.digest,
        variants=[
            ProfileVariant(variant=variant, path=str(root.joined("variants", variant.name).container_path))
            for variant in spec.variants
        ],
        evaluation_path=_path(spec.data.evaluation),
        fields=spec.data.fields,
        evaluation=evaluation_of(spec.task, spec.evaluation),
        batch_sizes=spec.profile.batch_sizes,
        sequence_lengths=spec.profile.sequence_lengths,
        hardware_class=hardware_class,
        hardware_class_hash=hardware_class_hash(hardware),
        image=server_image(o, hardware_class=hardware_class),
        workers=server_workers_of(hardware),
        threads=server_threads_of(hardware),
        device=device_of(hardware),
        report=ReportTarget(url=o.environment.report_url),
    )


def source_of(spec: CycleJobSpec, *, variant: str) -> ProfileSource | None:
    """What a measurement of ``variant`` is made from; None for one that the spec doesn't have."""
    found = next((one for one in spec.variants if one.name == variant), None)
    if found is None:
        return None
    return ProfileSource(
        variant=found,
        data=spec.data.evaluation,
        fields=spec.data.fields,
        evaluation=evaluation_of(spec.task, spec.evaluation),
    )


def _identity(o: Observation) -> JobIdentity:
    return JobIdentity(namespace=o.owner.namespace, name=o.name, uid=o.owner.uid)


def _path(uri: str) -> str:
    return str(parse_uri(uri).container_path)
