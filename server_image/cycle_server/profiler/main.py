"""`cycle-server profile`: one Profile per variant, reported as soon as it is made."""

import hashlib
import json
import logging
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from cycle_server.engine.device import device_name
from cycle_server.engine.stages import read_manifest
from cycle_server.errors import BadInputError, BadVariantError
from cycle_server.process import processor_name
from cycle_server.profiler.classifier import measure_images, measure_sets, measure_texts
from cycle_server.profiler.http import measure_http
from cycle_server.profiler.language import measure_language_model
from cycle_server.profiler.translation import measure_translations
from cycle_wire.parts import Task
from cycle_wire.profile import Histogram, Profile
from cycle_wire.reports import FailureReport, ProfileReport
from cycle_wire.sender import Sender
from cycle_wire.serving import ProfileVariant, ProfilingConfig, ServerConfig

logger = logging.getLogger(__name__)

NO_BUDGET_MILLISECONDS = 60_000.0


def profile(config: ProfilingConfig) -> int:
    """Exit code 0. Raises BadInputError after having reported it."""
    sender = Sender(target=config.report, job=config.job)
    try:
        for variant in config.variants:
            started = time.monotonic()
            made = profile_variant(config, variant)
            sender.post(ProfileReport(profile=made))
            logger.info("%s: %.0f s, %s", variant.variant.name, time.monotonic() - started, summary(made))
    except BadInputError as error:
        sender.post(FailureReport(reason=error.reason, message=str(error)[:2000], field=error.field))
        sender.flush()
        raise
    sender.flush()
    return 0


def profile_variant(config: ProfilingConfig, variant: ProfileVariant) -> Profile:
    manifest = read_manifest(Path(variant.path))
    if manifest.variant.name != variant.variant.name or manifest.model_digest != config.model_digest:
        raise BadVariantError(
            f"{variant.path} holds {manifest.variant.name} of {manifest.model_digest}, "
            f"not {variant.variant.name} of {config.model_digest}"
        )
    server = ServerConfig(
        model_name="profile",
        variant_path=variant.path,
        model_digest=config.model_digest,
        variant=variant.variant.name,
        maximum_batch_size=max(config.batch_sizes),
        budget_milliseconds=NO_BUDGET_MILLISECONDS,
        workers=config.workers,
        threads=config.threads,
        device=config.device,
        warmup_sequence_lengths=sorted(set(config.sequence_lengths)),
    )
    measured = MEASURES[manifest.task](config, server)
    http = measure_http(server, measured.bodies)
    return Profile(
        model_digest=config.model_digest,
        variant=variant.variant.name,
        hardware_class=config.hardware_class,
        hardware_class_hash=config.hardware_class_hash,
        image=config.image,
        server_settings_hash=settings_hash(workers=config.workers, threads=config.threads),
        rows=list(measured.rows),
        generation=list(measured.generation),
        overhead=http.overhead,
        cache_hit=http.cache_hit,
        overhead_cpu_seconds=http.overhead_cpu_seconds,
        cache_hit_cpu_seconds=http.cache_hit_cpu_seconds,
        metrics=list(measured.metrics),
        parameters=manifest.parameters,
        size_bytes=manifest.size_bytes,
        sparsity=manifest.sparsity,
        memory_bytes=http.memory_bytes + measured.pool_bytes,
        startup_seconds=http.startup_seconds,
        batch_invariant=measured.batch_invariant,
        neighbour_difference=measured.neighbour_difference,
        workers=measured.workers,
        threads=measured.threads,
        processor=device_name(config.device, processor=processor_name)[:256],
        measured_at=datetime.now(UTC),
    )


MEASURES = {
    Task.TEXT_CLASSIFICATION: measure_texts,
    Task.IMAGE_CLASSIFICATION: measure_images,
    Task.RECOMMENDATION: measure_sets,
    Task.LANGUAGE_MODELING: measure_language_model,
    Task.TRANSLATION: measure_translations,
}


def settings_hash(*, workers: int, threads: int) -> str:
    """Of what the server's speed and answers depend on beside variant, class and image."""
    settings = {"workers": workers, "threads": threads, "server": version("cycle-server")}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def summary(made: Profile) -> str:
    """One line for people."""
    metrics = ", ".join(f"{metric.name} {metric.value:.4f}" for metric in made.metrics)
    compute = ", ".join(
        f"{row.batch_size}x{row.sequence_length} {row.compute.quantile_seconds(0.5) * 1000:.1f}"
        for row in made.rows
        if row.pace == "Saturated"
    )
    tokens = ", ".join(
        f"{row.concurrency}x{row.prompt_tokens} {_milliseconds(row.first_token, 0.5)}/"
        f"{_milliseconds(row.per_token, 0.5)}"
        for row in made.generation
    )
    speed = f"first token and per token p50 ms: {tokens}" if tokens else f"compute p50 ms: {compute}"
    overhead, hit = made.overhead, made.cache_hit
    return (
        f"{metrics}; {speed}; "
        f"overhead p50/p99 {_milliseconds(overhead, 0.5)}/{_milliseconds(overhead, 0.99)} ms; "
        f"hit p50/p99 {_milliseconds(hit, 0.5)}/{_milliseconds(hit, 0.99)} ms; {made.memory_bytes / 1e6:.0f} MB; "
        f"start {made.startup_seconds:.1f} s; neighbours change {made.neighbour_difference:.1e}"
    )


def _milliseconds(histogram: Histogram, q: float) -> str:
    return f"{histogram.quantile_seconds(q) * 1000:.2f}"
