"""Synthetic profiles, with the shape of real ones: times with a tail, batches cheaper per request than singles."""

from datetime import UTC, datetime
from functools import cache

import numpy as np

from cycle_wire.profile import Histogram, MetricValue, Pace, Profile, ProfileRow
from cycleops.planner import Candidate, HardwareOption


@cache
def histogram(mean_seconds: float, *, cv: float = 0.1, samples: int = 200, seed: int = 0) -> Histogram:
    """Lognormal times with this mean and coefficient of variation."""
    sigma = np.sqrt(np.log1p(cv**2))
    times = np.random.default_rng(seed).lognormal(np.log(mean_seconds) - sigma**2 / 2, sigma, samples)
    return Histogram.of(times.tolist())


def compute_seconds(base: float, batch: int, length: int) -> float:
    """A fixed part, and one that goes with the tokens of the batch."""
    return base * (0.4 + 0.6 * batch * length / 32)


@cache
def profile(
    variant: str = "fp32",
    *,
    base_seconds: float = 0.008,
    accuracy: float = 0.75,
    hardware: str = "cpu-small",
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16),
    lengths: tuple[int, ...] = (16, 32, 64),
    cv: float = 0.1,
) -> Profile:
    rows = [
        ProfileRow(
            batch_size=batch,
            sequence_length=length,
            pace=pace,
            pre=histogram(0.0003 + length * 4e-6),
            compute=histogram(compute_seconds(base_seconds, batch, length), cv=cv, seed=batch * 1000 + length),
            post=histogram(0.0001),
        )
        for batch in batch_sizes
        for length in lengths
        for pace in Pace
    ]
    return Profile(
        model_digest="sha256:" + "0" * 64,
        variant=variant,
        hardware_class=hardware,
        hardware_class_hash="h",
        image="server",
        server_settings_hash="s",
        rows=rows,
        overhead=histogram(0.002, cv=0.2),
        cache_hit=histogram(0.001, cv=0.2),
        metrics=[
            MetricValue(name="accuracy", value=accuracy + 0.05, rows=3000),
            MetricValue(name="f1Macro", value=accuracy, rows=3000),
        ],
        parameters=22_000_000,
        size_bytes=90_000_000,
        sparsity=0,
        memory_bytes=500_000_000,
        startup_seconds=5,
        batch_invariant=True,
        neighbour_difference=0,
        threads=1,
        processor="synthetic",
        measured_at=datetime(2026, 11, 24, tzinfo=UTC),
    )


def candidate(
    variant: str = "fp32",
    *,
    base_seconds: float = 0.008,
    accuracy: float = 0.75,
    hardware: str = "cpu-small",
    cost_per_hour: float = 0.02,
    maximum_replicas: int | None = None,
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16),
    lengths: tuple[int, ...] = (16, 32, 64),
) -> Candidate:
    return Candidate(
        profile=profile(
            variant,
            base_seconds=base_seconds,
            accuracy=accuracy,
            hardware=hardware,
            batch_sizes=batch_sizes,
            lengths=lengths,
        ),
        hardware=HardwareOption(name=hardware, cost_per_hour=cost_per_hour, maximum_replicas=maximum_replicas),
    )


def four_variants(**settings: float) -> list[Candidate]:
    """As in the example: fp32, bf16, int8 and pruned int8."""
    variants = (("fp32", 0.008, 0.75), ("bf16", 0.005, 0.749), ("int8", 0.004, 0.745), ("pruned30-int8", 0.003, 0.72))
    return [
        candidate(name, base_seconds=seconds, accuracy=value, cost_per_hour=settings.get("cost_per_hour", 0.02))
        for name, seconds, value in variants
    ]
