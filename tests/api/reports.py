"""What the pods of a CycleJob report, as its images would."""

import datetime as dt

from cycle_wire.profile import Histogram, MetricValue, Pace, Profile, ProfileRow
from cycle_wire.reports import (
    Baseline,
    BaselineReport,
    FailureReport,
    ProfileReport,
    ProgressReport,
    TrainedReport,
    VariantReport,
    WorldReport,
)
from cycle_wire.variant import VariantManifest
from cycleops.api.cyclejob import CycleJob
from tests.api.job_world import SPEC, Body

DIGEST = "sha256:" + "ab" * 32
MODEL_URI = f"pvc://models/out/sha256-{'ab' * 32}"


def world(
    size: int = 2,
    *,
    hosts: tuple[str, ...] = ("demo-worker-0", "demo-worker-1"),
    total: float | None = None,
    transport: str = "MPI",
) -> WorldReport:
    return WorldReport(
        size=size,
        hosts=list(hosts),
        ranks_per_host=[size // len(hosts)] * len(hosts),
        devices=["cpu"] * size,
        transport=transport,
        all_reduce_sum=size * (size + 1) / 2 if total is None else total,
    )


def progress(step: int) -> ProgressReport:
    return ProgressReport(
        step=step, total_steps=300, loss=1.5, learning_rate=1e-5, samples_per_second=50.0,
        pre_seconds=0.1, compute_seconds=0.1, post_seconds=0.1,
        forward_seconds=0.04, backward_seconds=0.04, all_reduce_seconds=0.01, first_step=0,
        attempt_productive_seconds=0.2 * step, attempt_checkpointing_seconds=0.1 * step,
    )  # fmt: skip


def trained() -> TrainedReport:
    return TrainedReport(uri=MODEL_URI, digest=DIGEST, steps=300, final_loss=0.7, train_rows=19200, labels=45)


def baselines() -> BaselineReport:
    values = [MetricValue(name="accuracy", value=0.1, rows=3000)]
    return BaselineReport(baselines=[Baseline(name="majority", description="The commonest class.", metrics=values)])


def variants(*names: str) -> VariantReport:
    spec = {variant.name: variant for variant in CycleJob.model_validate(_job_body()).spec.variants}
    return VariantReport(
        manifests=[
            VariantManifest(
                variant=spec[name],
                task="TextClassification",
                model_digest=DIGEST,
                weights_digest=DIGEST,
                size_bytes=90_000_000,
                parameters=22_000_000,
                sparsity=0.0,
            )
            for name in names
        ]
    )


def _job_body() -> Body:
    return {"apiVersion": "cycleops.dev/v1alpha1", "kind": "CycleJob", "metadata": {"name": "demo"}, "spec": SPEC}


def profile(variant: str, *, hardware: str = "small") -> ProfileReport:
    times = Histogram.of([0.01, 0.011, 0.02])
    row = ProfileRow(batch_size=1, sequence_length=16, pace=Pace.PACED, pre=times, compute=times, post=times)
    return ProfileReport(
        profile=Profile(
            model_digest=DIGEST,
            variant=variant,
            hardware_class=hardware,
            hardware_class_hash="0123",
            image="cycleops/server:test",
            server_settings_hash="4567",
            rows=[row],
            overhead=times,
            cache_hit=times,
            metrics=[MetricValue(name="accuracy", value=0.7, rows=3000)],
            parameters=1,
            size_bytes=1,
            sparsity=0.0,
            memory_bytes=1,
            startup_seconds=1.0,
            batch_invariant=True,
            neighbour_difference=0.0,
            threads=1,
            processor="p",
            measured_at=dt.datetime.now(dt.UTC),
        )
    )


def failure(reason: str, message: str, field: str | None = None) -> FailureReport:
    return FailureReport(reason=reason, message=message, field=field)
