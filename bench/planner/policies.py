"""Scaling policies side by side, in a closed loop on traces: which keeps the budget, and with how many replica-hours?

    python -m bench.planner.policies [--traces step,spike] [--hindsight]

Ours runs with one setting for all traces. The peers' target is swept for each trace on other draws of it than those
that are reported (with --hindsight on the same), and their best is taken: fewest replica-hours with at least 99 % of
the requests within the budget; where none reaches that, the most within it below the static peak's hours. Writes a plot
per trace and planner.json's `policies` into out/bench/. Minutes per trace.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.planner.loop import Run
from bench.planner.loop import run as run_loop
from bench.planner.ours import Ours
from bench.planner.peers import HpaOnCpu, LlmdLaw, Policy, Static
from bench.planner.plots import plot
from bench.planner.service import BUDGET_MILLISECONDS, PERCENTILE, Played, attainment, play
from bench.planner.traces import DECLARED, SHAPES

GOAL = PERCENTILE / 100
SLACK = 1.02
FIRST_TUNING_SEED, FIRST_HELD_OUT_SEED = 201, 101
# Draws per trace: as many as make a mean of the short ones; the long ones are averages in themselves.
DRAWS, DRAWS_OF_LONG = 10, 3
LONG = ("diurnal", "calls")
OURS, STATIC, HPA, LLMD, LLMD_PUBLISHED = "cycleops", "static peak", "HPA on CPU", "llm-d law", "llm-d law as published"
# Of the time a pod computes. With batches a pod that always computes still has room, hence up to 0.95.
HPA_TARGETS = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
# Both published thresholds, 0.55 and 0.40, times this.
LLMD_FACTORS = (0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 2.0)

Make = Callable[[float], Policy]


@dataclass(frozen=True, kw_only=True)
class Score:
    """Over some draws together."""

    attainment: float
    replica_hours: float
    worst: float
    runs: tuple[Run, ...]


def run(
    *,
    traces: Sequence[str] = (),
    hindsight: bool = False,
    draws_of_each: int | None = None,
    plots: Path | None = None,
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Rows ``{trace, policy, setting, attainment, worst, replicaHours}``: over all draws, ``worst`` of one; mean hours.

    ``traces``: names of the functions in :mod:`bench.planner.traces`; all when empty. A trace whose data package is
    not installed is left out, and said so. ``draws_of_each``: instead of DRAWS and DRAWS_OF_LONG.
    """
    rows: list[dict[str, Any]] = []
    for shape in SHAPES:
        if traces and shape.__name__ not in traces:
            continue
        try:
            draws = draws_of_each or (DRAWS_OF_LONG if shape.__name__ in LONG else DRAWS)
            held_out = [_played(shape, FIRST_HELD_OUT_SEED + i) for i in range(draws)]
            tuning = held_out if hindsight else [_played(shape, FIRST_TUNING_SEED + i) for i in range(draws)]
        except ModuleNotFoundError as missing:
            say(f"{shape.__name__} is left out: {missing} (pip install -r requirements/bench-data.lock)")
            continue
        name = held_out[0].trace.name
        scores = _scores(tuning, held_out)
        rows += [
            {
                "trace": name,
                "policy": policy,
                "setting": setting,
                "attainment": round(score.attainment, 5),
                "worst": round(score.worst, 5),
                "replicaHours": round(score.replica_hours, 3),
            }
            for policy, (setting, score) in scores.items()
        ]
        say(verdict(rows, name))
        if plots is not None:
            plots.mkdir(parents=True, exist_ok=True)
            shown = {policy: score.runs[0] for policy, (_, score) in scores.items() if policy != LLMD_PUBLISHED}
            plot(held_out[0], shown, plots / f"policies-{shape.__name__.replace('_', '-')}.png")
    return rows


def _played(shape: Callable[[np.random.Generator], Any], seed: int) -> Played:
    return play(shape(np.random.default_rng([seed, 7])), seed=seed)


def static_peak() -> int:
    """What the planner says for the declared rate; every policy begins with it."""
    replicas = attainment().replicas_for(rate_per_second=DECLARED, goal=GOAL)
    assert replicas is not None
    return replicas


def _scores(tuning: Sequence[Played], held_out: Sequence[Played]) -> dict[str, tuple[str, Score]]:
    most = static_peak()
    limit = _score(tuning, lambda: Static(replicas=most)).replica_hours
    hpa = tuned(tuning, HPA_TARGETS, lambda target: HpaOnCpu(target=target), limit)
    llmd = tuned(tuning, LLMD_FACTORS, _llmd, limit)
    return {
        OURS: ("one for all", _score(held_out, lambda: Ours(initial=most))),
        STATIC: (f"{most} replicas", _score(held_out, lambda: Static(replicas=most))),
        HPA: (f"target {hpa:g}", _score(held_out, lambda: HpaOnCpu(target=hpa))),
        LLMD: (f"up {0.55 * llmd:.2f}, down {0.40 * llmd:.2f}", _score(held_out, lambda: _llmd(llmd))),
        LLMD_PUBLISHED: ("up 0.55, down 0.40", _score(held_out, lambda: _llmd(1.0))),
    }


def _llmd(factor: float) -> LlmdLaw:
    return LlmdLaw(budget_seconds=BUDGET_MILLISECONDS / 1000, up=0.55 * factor, down=0.40 * factor)


def tuned(tuning: Sequence[Played], settings: Sequence[float], make: Make, limit_hours: float) -> float:
    """The best of the settings on these seeds; then the middles to its neighbours are tried too."""
    known = {setting: _score(tuning, lambda s=setting: make(s)) for setting in settings}  # type: ignore[misc]
    best = _best(known, limit_hours)
    at = settings.index(best)
    for other in (*settings[max(at - 1, 0) : at], *settings[at + 1 : at + 2]):
        middle = round((best + other) / 2, 4)
        known[middle] = _score(tuning, lambda s=middle: make(s))  # type: ignore[misc]
    return _best(known, limit_hours)


def _best(known: dict[float, Score], limit_hours: float) -> float:
    reach = {setting: score for setting, score in known.items() if score.attainment >= GOAL}
    if reach:
        return min(reach, key=lambda setting: reach[setting].replica_hours)
    below = {setting: score for setting, score in known.items() if score.replica_hours < limit_hours} or known
    return max(below, key=lambda setting: below[setting].attainment)


def _score(played: Sequence[Played], make: Callable[[], Policy]) -> Score:
    runs = tuple(run_loop(one, make(), initial=static_peak()) for one in played)
    counts = [len(one.requests.arrival) for one in played]
    return Score(
        attainment=float(np.average([one.attainment for one in runs], weights=counts)),
        replica_hours=float(np.mean([one.replica_hours for one in runs])),
        worst=min(one.attainment for one in runs),
        runs=runs,
    )


def verdict(rows: Sequence[dict[str, Any]], trace: str) -> str:
    """Whether ours meets the target on this trace, with the numbers."""
    of_trace = {row["policy"]: row for row in rows if row["trace"] == trace}
    ours = of_trace[OURS]
    reach = [row for row in of_trace.values() if row["attainment"] >= GOAL]
    said = f"{trace}: {ours['attainment']:.2%} within the budget with {ours['replicaHours']:.1f} replica-hours"
    adaptive = [row for row in reach if row["policy"] != STATIC]
    if adaptive:
        fewest = min(row["replicaHours"] for row in reach)
        met = ours["attainment"] >= GOAL and ours["replicaHours"] <= SLACK * fewest
        others = min((row for row in reach if row is not ours), key=lambda row: row["replicaHours"])
        ratio = ours["replicaHours"] / others["replicaHours"]
        return f"{said}; {ratio:.3f} x the best other's ({others['policy']}): target {'met' if met else 'MISSED'}"
    static = of_trace[STATIC]["replicaHours"]
    below = [row for row in of_trace.values() if row["replicaHours"] < static]
    met = bool(below) and max(below, key=lambda row: row["attainment"]) is ours
    return f"{said}; no policy that adapts reaches {GOAL:.0%}: target {'met' if met else 'MISSED'}"


def show(rows: Sequence[dict[str, Any]], console: Console) -> None:
    table = Table(title=f"p{PERCENTILE:g} within {BUDGET_MILLISECONDS:g} ms, held-out draws")
    for column in ("trace", "policy", "setting", "within budget", "worst draw", "replica-hours"):
        table.add_column(column, justify="left" if column in ("trace", "policy", "setting") else "right")
    for row in rows:
        numbers = (f"{row['attainment']:.3%}", f"{row['worst']:.3%}", f"{row['replicaHours']:.2f}")
        table.add_row(
            row["trace"], row["policy"], row["setting"], *numbers, end_section=row["policy"] == LLMD_PUBLISHED
        )
    console.print(table)


def write(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Into ``policies`` of planner.json; rows of other traces and the file's other parts stay."""
    content = json.loads(file.read_text()) if file.exists() else {}
    new = {row["trace"] for row in rows}
    kept = [row for row in content.get("policies", []) if row["trace"] not in new]
    columns = ("trace", "policy", "attainment", "replicaHours")
    content["policies"] = [*kept, *({column: row[column] for column in columns} for row in rows)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", default="", help="comma-separated; all by default")
    parser.add_argument("--hindsight", action="store_true", help="tune the peers on the very draws that are reported")
    parser.add_argument("--draws", type=int, help=f"of each trace; {DRAWS} by default, {DRAWS_OF_LONG} of long ones")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder of planner.json and the plots")
    asked = parser.parse_args()
    names = [name for name in asked.traces.split(",") if name]
    if unknown := set(names) - {shape.__name__ for shape in SHAPES}:
        parser.error(f"--traces: no trace {', '.join(sorted(unknown))}")
    rows = run(traces=names, hindsight=asked.hindsight, draws_of_each=asked.draws, plots=asked.out)
    show(rows, Console(width=140))
    if not asked.hindsight:
        write(rows, asked.out / "planner.json")


if __name__ == "__main__":
    main()
