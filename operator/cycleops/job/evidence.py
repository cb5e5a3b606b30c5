"""Folds what pods reported into the status. Pure."""

import datetime as dt
import math
from collections.abc import Iterable
from functools import singledispatch

from cycle_wire.profile import MetricValue
from cycle_wire.reports import (
    BaselineReport,
    CheckpointReport,
    FailureReport,
    Message,
    ProfileReport,
    ProgressReport,
    TrainedReport,
    VariantReport,
    WorldReport,
)
from cycleops.api.cyclejob import CycleJobSpec
from cycleops.api.cyclejob_status import (
    BaselineStatus,
    CheckpointStatus,
    CycleJobStatus,
    FailureStatus,
    Metric,
    ProfileReference,
    Progress,
    TrainedModel,
    VariantStatus,
    WorldStatus,
)
from cycleops.controller.inbox import Delivery
from cycleops.job import names

# What status.progress has of a progress report.
_OF_STEP = set(Progress.model_fields) - {"time", "estimated_completion_time"}
_LONGEST_SECONDS = 10 * 365 * 86_400.0  # beyond it a time of completion says nothing; also keeps out what isn't finite


def fold(
    status: CycleJobStatus, deliveries: Iterable[Delivery], *, job: str, spec: CycleJobSpec, now: dt.datetime
) -> CycleJobStatus:
    """The status with every report in it, in the order of arrival."""
    for delivery in deliveries:
        message = delivery.message
        if isinstance(message, FailureReport):
            failure = FailureStatus(
                reason=message.reason, message=message.message, field=message.field, pod=delivery.pod
            )
            status = status.model_copy(update={"failure": failure})
        elif isinstance(message, ProfileReport):
            status = _with_profile(status, message, job=job, spec=spec)
        else:
            status = status.model_copy(update=_fields(message, status, now.replace(microsecond=0)))
    return status


@singledispatch
def _fields(message: Message, status: CycleJobStatus, now: dt.datetime) -> dict[str, object]:
    raise NotImplementedError(type(message).__name__)


@_fields.register
def _(message: WorldReport, _: CycleJobStatus, now: dt.datetime) -> dict[str, object]:
    world = WorldStatus(
        size=message.size,
        hosts=message.hosts,
        ranks_per_host=message.ranks_per_host,
        devices=sorted(set(message.devices)),
        transport=message.transport,
        time=now,
    )
    return {"world": world, "failure": None}  # a new attempt runs: why the one before failed is over


@_fields.register
def _(message: ProgressReport, _: CycleJobStatus, now: dt.datetime) -> dict[str, object]:
    finite = {name: value for name, value in message.model_dump(include=_OF_STEP).items() if math.isfinite(value)}
    step_seconds = message.pre_seconds + message.compute_seconds + message.post_seconds
    left = (message.total_steps - message.step) * step_seconds
    done = now + dt.timedelta(seconds=round(left)) if 0.0 <= left < _LONGEST_SECONDS else None
    return {"progress": Progress(**finite, time=now, estimated_completion_time=done)}


@_fields.register
def _(message: CheckpointReport, _: CycleJobStatus, __: dt.datetime) -> dict[str, object]:
    saved_at = message.saved_at.replace(microsecond=0)
    return {
        "last_checkpoint": CheckpointStatus(step=message.step, uri=message.uri, digest=message.digest, time=saved_at)
    }


@_fields.register
def _(message: TrainedReport, _: CycleJobStatus, __: dt.datetime) -> dict[str, object]:
    loss = message.final_loss if math.isfinite(message.final_loss) else None
    return {"model": TrainedModel(**message.model_dump(exclude={"kind", "final_loss"}), final_loss=loss)}


@_fields.register
def _(message: BaselineReport, _: CycleJobStatus, __: dt.datetime) -> dict[str, object]:
    return {
        "baselines": [
            BaselineStatus(name=entry.name, description=entry.description, metrics=_metrics(entry.metrics))
            for entry in message.baselines
        ]
    }


@_fields.register
def _(message: VariantReport, status: CycleJobStatus, __: dt.datetime) -> dict[str, object]:
    root = status.model.uri if status.model is not None else ""
    variants = [
        VariantStatus(
            name=manifest.variant.name,
            uri=f"{root}/variants/{manifest.variant.name}",
            size_bytes=manifest.size_bytes,
            parameters=manifest.parameters,
            sparsity=manifest.sparsity,
            weights_digest=manifest.weights_digest,
        )
        for manifest in message.manifests
    ]
    return {"variants": variants}


def _with_profile(status: CycleJobStatus, message: ProfileReport, *, job: str, spec: CycleJobSpec) -> CycleJobStatus:
    measured = message.profile
    name = names.cycle_profile(job, measured)
    reference = ProfileReference(variant=measured.variant, hardware=measured.hardware_class, name=name)
    others = [p for p in status.profiles if (p.variant, p.hardware) != (measured.variant, measured.hardware_class)]
    profiles = sorted([*others, reference], key=lambda p: (p.hardware, p.variant))
    variants = status.variants
    if measured.hardware_class == (spec.profile.hardware or [spec.workers.hardware])[0]:
        metrics = _metrics(measured.metrics)
        variants = [v.model_copy(update={"metrics": metrics}) if v.name == measured.variant else v for v in variants]
    return status.model_copy(update={"profiles": profiles, "variants": variants})


def _metrics(values: Iterable[MetricValue]) -> list[Metric]:
    return [Metric(name=value.name, value=value.value, rows=value.rows) for value in values]
