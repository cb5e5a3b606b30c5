"""Profile, predict, load, judge: each step leaves its files, so that a later call can go on from there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.in_image import OUT, run_in_image
from bench.planner.validate.files import Files
from bench.planner.validate.judge import rows, table, verdict
from bench.planner.validate.limits import granting
from bench.planner.validate.predict import predict
from bench.planner.validate.scenarios import SCENARIOS, TUNING, Scenario, choose

IMAGE = "bench"


@dataclass(frozen=True, kw_only=True)
class Options:
    """``only``: names of scenarios, all when empty. Profiles older than ``minutes`` are measured anew.

    ``tuning``: the scenarios that the model may be mended with; they have files of their own.
    """

    only: Sequence[str] = ()
    minutes: float = 10.0
    least_seconds: float = 45.0
    most_seconds: float = 90.0
    tuning: bool = False

    @property
    def scenarios(self) -> Sequence[Scenario]:
        return TUNING if self.tuning else SCENARIOS

    @property
    def folder(self) -> Path:
        return OUT / ("planner-tuning" if self.tuning else "planner")


def validate(options: Options, *, say: Callable[[str], None] = print) -> int:
    """Exit code of what failed first, or 0. Predictions are on disk before the load starts."""
    files, chosen = Files(options.folder), choose(options.only, among=options.scenarios)
    variants = sorted({scenario.variant for scenario in chosen})
    old = [name for name in variants if not files.is_fresh(name, minutes=options.minutes)]
    if old:
        say(f"profiling {', '.join(old)}")
        if code := _inside(options, "profile", old):
            return code
    files.add_predictions(predict(chosen, files, seconds=options.most_seconds))
    say(f"wrote {files.predictions_file}")
    files.predictions_file.chmod(0o644)
    seconds = (f"--least-seconds={options.least_seconds}", f"--most-seconds={options.most_seconds}")
    with granting(files):
        return _inside(options, "load", [scenario.name for scenario in chosen], *seconds)


def _inside(options: Options, what: str, names: Sequence[str], *more: str) -> int:
    command = [
        "python",
        "-m",
        "bench.planner.validate.inside",
        what,
        "--out",
        f"/out/{options.folder.name}",
        *more,
        *names,
    ]
    return run_in_image(IMAGE, command)


def report(options: Options, *, console: Console) -> list[dict[str, Any]]:
    """Prints the table and the targets of all that was measured; the rows for planner.json."""
    files = Files(options.folder)
    found = rows(options.scenarios, files.predictions(), files.measured())
    console.print(table(found))
    for met, text in verdict(found):
        console.print(f"{'met   ' if met else 'MISSED'}  {text}")
    return found
