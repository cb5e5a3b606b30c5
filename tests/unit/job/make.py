"""Observations of the example's CycleJob at any point of its life."""

import asyncio
import dataclasses
import datetime as dt
from pathlib import Path
from typing import Any

import yaml

from cycle_wire.reports import (
    BaselineReport,
    CheckpointReport,
    Message,
    ProgressReport,
    TrainedReport,
    VariantReport,
    WorldReport,
)
from cycle_wire.variant import VariantManifest
from cycleops.api.cyclejob import CycleJob
from cycleops.api.cyclejob_status import (
    CycleJobStatus,
    ProfileReference,
    TrainedModel,
    VariantStatus,
    WorldStatus,
)
from cycleops.api.hardwareclass import HardwareClass, HardwareClassSpec
from cycleops.controller.inbox import Delivery
from cycleops.controller.kinds import JOB
from cycleops.controller.reconcile import Owner
from cycleops.controller.store import Facts, Store
from cycleops.job.evidence import fold
from cycleops.job.observation import Environment, Observation, SshKeys

EXAMPLES = Path(__file__).parents[3] / "examples"
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
UID = "00000000-0000-0000-0000-000000000001"
DIGEST = "sha256:" + "0f" * 32
MODEL = TrainedModel(uri=f"pvc://models/supersense/sha256-{'0f' * 32}", digest=DIGEST, steps=300)
WORLD = WorldStatus(
    size=2,
    hosts=["supersense-worker-0", "supersense-worker-1"],
    ranks_per_host=[1, 1],
    devices=["cpu"],
    transport="MPI",
)
VARIANTS = ("fp32", "bf16", "int8", "pruned30-int8")


def classes() -> dict[str, HardwareClassSpec]:
    documents = yaml.safe_load_all((EXAMPLES / "hardwareclass.yaml").read_text())
    return {body["metadata"]["name"]: HardwareClass.model_validate(body).spec for body in documents}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
    return result


def child(name: str, *, spec: dict[str, Any] | None = None, **status: Any) -> Facts:
    """A child Job that a watch has shown, such as ``child("worker", ready=2)``."""
    store = Store()
    body = {
        "metadata": {
            "name": f"supersense-{name}",
            "namespace": "ns",
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            "labels": {"cycleops.dev/role": name},
            "ownerReferences": [{"uid": UID, "controller": True}],
        },
        "spec": spec or {},
        "status": status,
    }
    store.put(JOB, body)
    return next(iter(store.children(UID).values()))


def ended(name: str, *, failed: str = "", failures: int = 0) -> Facts:
    """A child Job that completed, or failed for a reason."""
    condition = {
        "type": "Failed" if failed else "Complete",
        "status": "True",
        "reason": failed,
        "message": "its message",
    }
    return child(name, conditions=[condition], failed=failures)


def deliver(message: Message, *, pod: str = "supersense-worker-0", sequence: int = 1) -> Delivery:
    loop = asyncio.new_event_loop()
    try:
        return Delivery(pod=pod, pod_uid="p", sequence=sequence, message=message, stored=loop.create_future())
    finally:
        loop.close()


def observe(
    *children: Facts,
    spec: dict[str, Any] | None = None,
    status: CycleJobStatus | None = None,
    reports: tuple[Message, ...] = (),
    **changes: Any,
) -> Observation:
    """The example, with changes merged into its spec, at NOW."""
    body = yaml.safe_load((EXAMPLES / "cyclejob.yaml").read_text())
    body["metadata"] |= {"uid": UID, "namespace": "ns", "generation": 3}
    body["spec"] = merged(body["spec"], spec or {})
    job = CycleJob.model_validate({**body, "status": (status or CycleJobStatus()).to_dict()})
    deliveries = tuple(deliver(message, sequence=index) for index, message in enumerate(reports, start=1))
    observation = Observation(
        owner=Owner(namespace="ns", name="supersense", uid=UID, generation=3, status=job.status.to_dict()),
        children={(facts.kind, facts.name): facts for facts in children},
        job=job,
        evidence=fold(job.status, deliveries, job="supersense", spec=job.spec, now=NOW),
        deliveries=deliveries,
        classes=classes(),
        claims={"models": ("ReadWriteMany",), "data": ("ReadWriteMany",)},
        pod_notes=(),
        new_keys=SshKeys(private="PRIVATE", public="PUBLIC"),
        environment=Environment(
            trainer_image="trainer:1", server_image="server:1", report_url="https://report/v1/report", authority="CA\n"
        ),
        heard=NOW,
        now=NOW,
    )
    return dataclasses.replace(observation, **changes)


def evidence(*parts: str) -> CycleJobStatus:
    """A status that holds what was reported: of ``world``, ``model``, ``variants``, ``profiles``."""
    references = [ProfileReference(variant=v, hardware="cpu-small", name=f"p-{v}") for v in VARIANTS]
    available: dict[str, Any] = {
        "world": WORLD,
        "model": MODEL,
        "variants": [VariantStatus(name=name, uri=f"{MODEL.uri}/variants/{name}") for name in VARIANTS],
        "profiles": references,
    }
    return CycleJobStatus(start_time=NOW - dt.timedelta(seconds=60), **{part: available[part] for part in parts})


def world_report(
    size: int = 2,
    *,
    total: float | None = None,
    hosts: tuple[str, ...] = ("supersense-worker-0", "supersense-worker-1"),
) -> WorldReport:
    return WorldReport(
        size=size,
        hosts=list(hosts),
        ranks_per_host=[size // len(hosts)] * len(hosts),
        devices=["cpu"] * size,
        transport="MPI",
        all_reduce_sum=size * (size + 1) / 2 if total is None else total,
    )


def progress_report(
    step: int, *, loss: float = 1.0, first_step: int = 0, productive: float = 0.0, checkpointing: float = 0.0
) -> ProgressReport:
    return ProgressReport(
        step=step, total_steps=300, loss=loss, learning_rate=1e-5, samples_per_second=10.0,
        pre_seconds=0.1, compute_seconds=0.2, post_seconds=0.3,
        forward_seconds=0.05, backward_seconds=0.1, all_reduce_seconds=0.04, first_step=first_step,
        attempt_productive_seconds=productive, attempt_checkpointing_seconds=checkpointing,
    )  # fmt: skip


def checkpoint_report(step: int) -> CheckpointReport:
    return CheckpointReport(step=step, uri="pvc://models/supersense/checkpoints/x", digest=DIGEST, saved_at=NOW)


def trained_report(final_loss: float = 0.5) -> TrainedReport:
    return TrainedReport(uri=MODEL.uri, digest=DIGEST, steps=300, final_loss=final_loss, train_rows=10, labels=45)


def baseline_report() -> BaselineReport:
    return BaselineReport(baselines=[])


def variant_report(o: Observation) -> VariantReport:
    return VariantReport(
        manifests=[
            VariantManifest(
                variant=variant, task="TextClassification", model_digest=DIGEST, weights_digest=DIGEST,
                size_bytes=5, parameters=3, sparsity=0.25,
            )
            for variant in o.spec.variants
        ]
    )  # fmt: skip
