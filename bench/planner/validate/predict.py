"""What the planner says of each scenario, from the profiles alone. On the host: a pure computation."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.planner.validate.files import Files, now
from bench.planner.validate.popularity import hit_ratio
from bench.planner.validate.scenarios import INPUT_TOKENS_P50, INPUT_TOKENS_P99, PERCENTILE, Scenario
from cycle_wire.profile import Profile
from cycleops.planner import Budget, Candidate, HardwareOption, Limits, Pinned, PlanResult, Settings, Workload, plan
from cycleops.planner.choice import Prepared
from cycleops.planner.evaluate import Evaluator
from cycleops.planner.service_time import service_times

SEED = 7
REQUESTS = 60_000
HIT_TURNS = 6  # until the hit ratio and the number of requests fit each other to a percent
ANY_MILLISECONDS = 60_000.0  # the plan is made whatever it predicts; the scenario's budget is held against it after
PREDICTED_BELOW = 0.97  # of the capacity: the unscored ones go nearer to it than a plan would


def predict(scenarios: Sequence[Scenario], files: Files, *, seconds: float) -> list[dict[str, Any]]:
    """Rows for the predictions' file: the rate of the load, and T as predicted when it takes ``seconds``."""
    return [_row(scenario, files, seconds) for scenario in scenarios]


def _hardware(scenario: Scenario) -> HardwareOption:
    """All pods of a scenario stand on one core; with a limit that leaves most of it free, as if on their own."""
    if scenario.cpu_limit_cores is not None:
        return HardwareOption(name="bench", cost_per_hour=1.0, cpu_limit_cores=scenario.cpu_limit_cores)
    return HardwareOption(name="bench", cost_per_hour=1.0, pods_per_core=scenario.replicas)


def _row(scenario: Scenario, files: Files, seconds: float) -> dict[str, Any]:
    profile = Profile.model_validate_json(files.profile(scenario.variant).read_bytes())
    way = json.loads(files.way(scenario.variant).read_text(encoding="utf-8"))["balancerOverheadSeconds"]
    settings = Settings(
        requests=REQUESTS,
        dispatchers=1,
        balancer_overhead_seconds=way,
        maximum_utilization=PREDICTED_BELOW,
        tight_from=PREDICTED_BELOW,
    )
    hardware = _hardware(scenario)
    candidate = Candidate(profile=profile, hardware=hardware)
    workload = Workload(
        rate_per_second=1.0,
        input_tokens_p50=INPUT_TOKENS_P50,
        input_tokens_p99=INPUT_TOKENS_P99,
        burstiness_cv2=scenario.cv2,
        rhythm=scenario.rhythm,
    )
    computed_per_second = scenario.load / _load_of_one(scenario, workload, candidate, settings)
    estimate, lower = _hits(scenario, computed_per_second, seconds)
    rate = computed_per_second / (1 - estimate)
    workload = replace(workload, rate_per_second=rate, cache_hit_ratio=estimate, cache_hit_ratio_lower=max(lower, 0.0))
    result = _plan(scenario, workload, candidate, settings)
    row = {
        "name": scenario.name,
        "predictedAt": now(),
        "profiledAt": profile.measured_at.isoformat(timespec="seconds"),
        "ratePerSecond": rate,
        "hitRatio": estimate,
        "budgetMs": scenario.budget_milliseconds,
    }
    if result.plan is None:
        return {**row, "predictedP50Ms": None, "predictedP99Ms": None, "predictedMet": False}
    predicted = result.plan.predicted
    return {
        **row,
        "predictedP50Ms": predicted.p50_ms,
        "predictedP99Ms": predicted.p99_ms,
        "predictedMet": predicted.sized_at_ms <= scenario.budget_milliseconds,  # as the planner itself decides
        "lowMs": predicted.low_ms,
        "highMs": predicted.high_ms,
        "load": predicted.load,
        "utilization": predicted.utilization,
        "meanBatch": predicted.mean_batch,
        "terms": {
            term: {"p50Ms": getattr(predicted, term).p50_ms, "p99Ms": getattr(predicted, term).p99_ms}
            for term in ("pre", "queue", "compute", "post", "overhead")
        },
    }


def _hits(scenario: Scenario, computed_per_second: float, seconds: float) -> tuple[float, float]:
    """Estimate and lower bound. What is computed is given, so the more hits, the more requests, and the more hits."""
    estimate, lower = 0.0, 0.0
    if scenario.zipf is None:
        return estimate, lower
    for _ in range(HIT_TURNS):
        estimate, lower = hit_ratio(scenario.zipf, requests=int(computed_per_second / (1 - estimate) * seconds))
    return estimate, lower


def _plan(scenario: Scenario, workload: Workload, candidate: Candidate, settings: Settings) -> PlanResult:
    """The choice is the scenario's in full: the planner only says what to expect of it."""
    return plan(
        workload=workload,
        budget=Budget(percentile=PERCENTILE, latency_milliseconds=ANY_MILLISECONDS),
        candidates=[candidate],
        limits=Limits(maximum_replicas=scenario.replicas),
        algorithm=scenario.algorithm,
        seed=SEED,
        pinned=Pinned(
            variant=scenario.variant,
            hardware="bench",
            batch_size=scenario.batch_size,
            delay_milliseconds=0.0,
            replicas=scenario.replicas,
        ),
        settings=settings,
    )


def _load_of_one(scenario: Scenario, workload: Workload, candidate: Candidate, settings: Settings) -> float:
    """The share of the capacity that one request per second is."""
    evaluator = Evaluator(
        workload=workload, percentile=PERCENTILE, algorithm=scenario.algorithm, settings=settings, seed=SEED
    )
    prepared = Prepared(candidate=candidate, times=service_times(candidate.profile), accuracy=None)
    return evaluator.load(prepared, scenario.batch_size, scenario.replicas)
