"""Time to first token, time per token and T of a real generating server, predicted and then measured.

    python -m bench.planner.generation            profile, predict, load: some five minutes on a quiet machine
    python -m bench.planner.generation --report   the table of what was measured last

One replica with SEQUENCES places and one thread on a core of its own; sidecar and client share the other. Arrivals are
Poisson and open-loop; times count from the moment at which a request was meant to be sent, and a token is there when
the client has its event. The client asks the sidecar, so no balancer is in the prediction. Predictions are on disk
before the load starts, in out/bench/planner-generation-predictions.json.
"""

import argparse
import sys
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.in_image import OUT, run_in_image
from bench.planner.generation.scenarios import (
    INPUT_TOKENS_P50,
    INPUT_TOKENS_P99,
    OUTPUT_TOKENS_P50,
    OUTPUT_TOKENS_P99,
    PERCENTILE,
    SCENARIOS,
    SEQUENCES,
    VARIANT,
    Scenario,
)
from bench.planner.validate.files import Files, now
from cycle_wire.profile import Profile
from cycleops.planner import Budget, Candidate, HardwareOption, Limits, Pinned, Settings, Workload
from cycleops.planner.generation.nearest import evaluator_of
from cycleops.planner.generation.search import prepare
from cycleops.planner.model import Algorithm
from cycleops.planner.planning import plan
from cycleops.planner.prepare import Problem
from cycleops.planner.result import Prediction

FOLDER = OUT / "planner-generation"
UNLIMITED_MILLISECONDS = 1e6  # what a time will be is asked for, not whether it is short enough
NEAR_CAPACITY = 0.97
TERMS = (("firstToken", "first token"), ("perToken", "per token"), ("total", "T"))
_TIMES = tuple(f"{label} {q}" for _, label in TERMS for q in ("p50", "p99"))
COLUMNS = ("load", "requests/s", "requests", "errors", *_TIMES, "others")


def problem_of(profile: Profile, rate: float) -> Problem:
    return Problem(
        workload=Workload(
            rate_per_second=rate,
            input_tokens_p50=INPUT_TOKENS_P50,
            input_tokens_p99=INPUT_TOKENS_P99,
            output_tokens_p50=OUTPUT_TOKENS_P50,
            output_tokens_p99=OUTPUT_TOKENS_P99,
        ),
        budget=Budget(percentile=PERCENTILE, latency_milliseconds=UNLIMITED_MILLISECONDS),
        candidates=(Candidate(profile=profile, hardware=HardwareOption(name="bench", cost_per_hour=1.0)),),
        limits=Limits(maximum_replicas=1),
        algorithm=Algorithm.LEAST_CONNECTIONS,
        seed=0,
        pinned=Pinned(variant=VARIANT, hardware="bench", batch_size=SEQUENCES, replicas=1),
        settings=Settings(
            dispatchers=1,
            balancer_overhead_seconds=0.0,
            maximum_utilization=NEAR_CAPACITY,
            tight_from=NEAR_CAPACITY,
        ),
    )


def predict(scenario: Scenario, profile: Profile) -> dict[str, Any]:
    """A row for the predictions' file: the rate that the load will have, and the times in milliseconds."""
    asked = problem_of(profile, 1.0)
    (prepared,), _ = prepare(asked)
    rate = scenario.load / evaluator_of(asked).load(prepared, SEQUENCES, 1)
    asked = replace(asked, workload=replace(asked.workload, rate_per_second=rate))
    result = plan(
        workload=asked.workload, budget=asked.budget, candidates=asked.candidates, limits=asked.limits,
        algorithm=asked.algorithm, pinned=asked.pinned, settings=asked.settings,
    )  # fmt: skip
    if result.plan is None:
        raise SystemExit(f"{scenario.name}: nothing was predicted: {' '.join(result.sentences)}")
    return {"name": scenario.name, "predictedAt": now(), "ratePerSecond": rate, **_times(result.plan.predicted)}


def _times(predicted: Prediction) -> dict[str, dict[str, float]]:
    assert predicted.generation is not None
    first, per = predicted.generation.first_token, predicted.generation.per_token
    pairs = {"total": predicted, "firstToken": first, "perToken": per}
    return {name: {"p50Ms": one.p50_ms, "p99Ms": one.p99_ms} for name, one in pairs.items()}


def report(files: Files) -> Table:
    table = Table(title=f"{VARIANT}, {SEQUENCES} places; milliseconds, predicted / measured")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    measured = {row["name"]: row for row in files.measured()}
    for said in files.predictions():
        seen = measured.get(said["name"])
        if seen is None or seen["measuredAt"] < said["predictedAt"]:
            continue
        cells = [_cell(said[term][q], seen[term][q]) for term, _ in TERMS for q in ("p50Ms", "p99Ms")]
        load = said["name"].rpartition("-")[2] + " %"
        counts = (f"{said['ratePerSecond']:.2f}", str(seen["requests"]), str(seen["errors"]))
        table.add_row(load, *counts, *cells, f"{seen['otherLoad']:.2f}")
    return table


def _cell(predicted: float, measured: float) -> str:
    return f"{predicted:.1f} / {measured:.1f} ({measured / predicted - 1:+.0%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load (default: %(default)s)")
    options = parser.parse_args()
    files = Files(FOLDER)
    if not options.report:
        _run("profile")
        profile = Profile.model_validate_json(files.profile(VARIANT).read_bytes())
        files.add_predictions([predict(scenario, profile) for scenario in SCENARIOS])
        files.predictions_file.chmod(0o644)
        print(f"wrote {files.predictions_file}")
        _run("load", f"--seconds={options.seconds}")
    Console(width=200).print(report(files))


def _run(what: str, *more: str) -> None:
    command = ["python", "-m", "bench.planner.generation.inside", what, "--out", f"/out/{FOLDER.name}", *more]
    if code := run_in_image("bench", command):
        sys.exit(code)


if __name__ == "__main__":
    main()
