"""Random questions to the planner; the same in each run."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.planner.problem import synthetic_profile
from cycleops.planner import AccuracyFloor, Algorithm, Budget, Candidate, HardwareOption, Limits, Workload

METRIC = "f1Macro"


@dataclass(frozen=True, kw_only=True)
class Instance:
    workload: Workload
    budget: Budget
    candidates: tuple[Candidate, ...]
    limits: Limits
    algorithm: Algorithm


def instances(*, seed: int = 2026) -> Iterator[Instance]:
    """Without end: one to five variants on one to three classes, 5 to 800 requests/s, budgets of 25 to 250 ms."""
    numbers = np.random.default_rng(seed)
    while True:
        yield _instance(numbers)


def _instance(numbers: np.random.Generator) -> Instance:
    variants, classes = int(numbers.integers(1, 6)), int(numbers.integers(1, 4))
    base = float(np.exp(numbers.uniform(np.log(0.003), np.log(0.03))))
    speeds = np.sort(np.exp(numbers.uniform(np.log(0.5), np.log(12), classes)))
    sizes = np.sort(numbers.uniform(0.15, 1.0, variants))[::-1]
    candidates = []
    for place, speed in enumerate(speeds):
        # A faster machine costs more than it is faster, more or less.
        cost = round(0.02 * float(speed) ** 1.1 * float(numbers.uniform(0.7, 1.4)), 4)
        hardware = HardwareOption(name=f"class-{place}", cost_per_hour=cost)
        for index, size in enumerate(sizes):
            seconds = base * float(size) * float(numbers.uniform(0.85, 1.2)) / float(speed)
            accuracy = 0.75 - 0.08 * (1 - float(size)) + float(numbers.normal(0, 0.004))
            profile = synthetic_profile(f"v{index}", hardware.name, seconds, accuracy, int(22e6 * float(size)), numbers)
            candidates.append(Candidate(profile=profile, hardware=hardware))
    p50 = int(numbers.integers(16, 65))
    return Instance(
        workload=Workload(
            rate_per_second=round(float(np.exp(numbers.uniform(np.log(5), np.log(800)))), 1),
            input_tokens_p50=p50,
            input_tokens_p99=int(p50 * numbers.uniform(1.5, 3.5)),
            burstiness_cv2=float(numbers.choice([0.5, 1.0, 1.0, 2.0, 4.0])),
        ),
        budget=Budget(
            percentile=float(numbers.choice([95, 99, 99])),
            latency_milliseconds=round(float(np.exp(numbers.uniform(np.log(25), np.log(250)))), 0),
            accuracy=AccuracyFloor(metric=METRIC, minimum=float(numbers.uniform(0.66, 0.73))),
        ),
        candidates=tuple(candidates),
        limits=Limits(maximum_replicas=40),
        algorithm=Algorithm(numbers.choice([one.value for one in Algorithm])),
    )
