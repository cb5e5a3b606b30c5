"""A question of the size that the planner must answer: 20 variants x 5 classes of hardware x 8 batch sizes."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from cycle_wire.profile import Histogram, MetricValue, Pace, Profile, ProfileRow
from cycleops.planner import AccuracyFloor, Budget, Candidate, HardwareOption, Limits, Workload

BATCH_SIZES = (1, 2, 4, 8, 12, 16, 24, 32)
LENGTHS = (16, 64, 128, 256)
SAMPLES = 60  # of each row: what the profiler takes of one
# Name, speed, cost per hour: a faster machine costs more than it is faster, as they do.
HARDWARE = (
    ("edge", 0.4, 0.006),
    ("cpu-small", 1.0, 0.02),
    ("cpu-medium", 2.0, 0.045),
    ("cpu-large", 4.0, 0.1),
    ("gpu", 30.0, 0.9),
)


@dataclass(frozen=True, kw_only=True)
class Question:
    workload: Workload
    budget: Budget
    candidates: tuple[Candidate, ...]
    limits: Limits


def question(*, variants: int = 20) -> Question:
    """Synthetic profiles with the shape of measured ones; the same in each run."""
    numbers = np.random.default_rng(11)
    candidates = []
    for index in range(variants):
        # Smaller variants are faster and less accurate, with some luck in both.
        size = 1.0 - 0.8 * index / max(variants - 1, 1)
        seconds = 0.030 * size * numbers.uniform(0.85, 1.2)
        accuracy = 0.75 - 0.06 * (1 - size) + numbers.normal(0, 0.004)
        for name, speed, cost in HARDWARE:
            profile = synthetic_profile(f"v{index}", name, seconds / speed, accuracy, int(22e6 * size), numbers)
            candidates.append(Candidate(profile=profile, hardware=HardwareOption(name=name, cost_per_hour=cost)))
    return Question(
        workload=Workload(rate_per_second=400, input_tokens_p50=48, input_tokens_p99=200, burstiness_cv2=2.0),
        budget=Budget(
            percentile=99,
            latency_milliseconds=80,
            accuracy=AccuracyFloor(metric="f1Macro", maximum_drop=0.03, baseline="v0"),
        ),
        candidates=tuple(candidates),
        limits=Limits(maximum_replicas=60),
    )


def synthetic_profile(
    variant: str, hardware: str, seconds: float, accuracy: float, parameters: int, numbers: np.random.Generator
) -> Profile:
    """``seconds``: of one input of 64 tokens."""

    def times(mean: float) -> Histogram:
        return Histogram.of(numbers.lognormal(np.log(mean), 0.12, SAMPLES).tolist())

    def compute(batch: int, length: int) -> float:
        return seconds * (0.25 + 0.7 * batch * length / 64 + 0.05 * batch * (length / 64) ** 2)

    rows = [
        ProfileRow(
            batch_size=batch,
            sequence_length=length,
            pace=pace,
            pre=times(0.0003 + 3e-6 * length),
            compute=times(compute(batch, length)),
            post=times(0.0001),
        )
        for batch in BATCH_SIZES
        for length in LENGTHS
        for pace in Pace
    ]
    return Profile(
        model_digest="sha256:" + "0" * 64,
        variant=variant,
        hardware_class=hardware,
        hardware_class_hash="bench",
        image="bench",
        server_settings_hash="bench",
        rows=rows,
        overhead=times(0.002),
        cache_hit=times(0.001),
        metrics=[MetricValue(name="f1Macro", value=accuracy, rows=3000)],
        parameters=parameters,
        size_bytes=4 * parameters,
        sparsity=0,
        memory_bytes=500_000_000,
        startup_seconds=5,
        batch_invariant=True,
        neighbour_difference=0,
        threads=1,
        processor="synthetic",
        measured_at=datetime(2026, 11, 25, tzinfo=UTC),
    )
