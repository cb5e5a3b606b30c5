"""The planner measured: its speed, its predictions against real servers, its scaling policies. Writes planner.json.

    make bench-planner                                all of it: some 40 minutes, best on a machine with nothing else
    python -m bench.planner --speed                   seconds of a plan, simulated requests per second
    python -m bench.planner --validate                real servers of ours: profiled, predicted, loaded, compared
    python -m bench.planner --validate --only NAME... a part of it; what was measured before is kept
    python -m bench.planner --report                  the table and the targets of all that was measured so far
    python -m bench.planner --policies                scaling policies in a closed loop (bench.planner.policies)
    python -m bench.planner --rules                   plans beside those of simpler rules (bench.planner.rules)

--validate needs two cores, the server image and, on the path, server_image/ (`make bench-planner` sets it). Profiles
are measured right before; --profiles-within MINUTES uses those of a call before. Predictions are written to
out/bench/planner-predictions.json before the load starts. What is measured and how: docs/benchmarks/planner.md.
"""

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.planner import policies, rules
from bench.planner.speed import Speed, measure
from bench.planner.validate.run import Options, report, validate

CONSOLE = Console(width=170)


def main() -> None:
    parser = _parser()
    options = parser.parse_args()
    asked = Options(
        only=options.only,
        minutes=options.profiles_within,
        least_seconds=options.least_seconds,
        most_seconds=options.most_seconds,
        tuning=options.tuning,
    )
    if unknown := set(options.only) - {scenario.name for scenario in asked.scenarios}:
        parser.error(f"--only: no scenario {', '.join(sorted(unknown))}")
    every = not (options.speed or options.validate or options.report or options.policies or options.rules)
    file: Path = options.out / "planner.json"
    if every or options.speed:
        speed = measure()
        _print(speed)
        _update(file, _speed(speed))
    if (every or options.validate) and (code := validate(asked)):
        sys.exit(code)
    if every or options.validate or options.report:
        found = report(asked, console=CONSOLE)
        if not options.tuning:
            _update(file, {"scenarios": found})
    if every or options.policies:
        rows = policies.run(plots=options.out)
        policies.show(rows, CONSOLE)
        policies.write(rows, file)
    if every or options.rules:
        results = rules.compare()
        rules.show(results)
        _update(file, {"rules": rules.to_dict(results)})
    print(f"wrote {file}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--policies", action="store_true")
    parser.add_argument("--rules", action="store_true")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="scenarios of --validate; all by default")
    parser.add_argument(
        "--profiles-within", type=float, default=10.0, metavar="MINUTES", help="older profiles are measured anew"
    )
    parser.add_argument("--least-seconds", type=float, default=45.0, help="of each scenario (default: %(default)s)")
    parser.add_argument("--most-seconds", type=float, default=90.0, help="then it is undecided (default: %(default)s)")
    parser.add_argument("--tuning", action="store_true", help="other scenarios, which the model may be mended with")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder of planner.json and the plots")
    return parser


def _speed(speed: Speed) -> dict[str, Any]:
    return {
        "planSeconds": speed.plan_seconds,
        "replanSeconds": speed.replan_seconds,
        "simulatedRequestsPerSecond": speed.rates[0].simulated_per_second,
        "speed": speed.to_dict(),
        "machine": platform.processor() or platform.machine(),
    }


def _update(file: Path, parts: dict[str, Any]) -> None:
    """The file's other parts stay."""
    file.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(file.read_text()) if file.exists() else {"scenarios": [], "policies": []}
    file.write_text(json.dumps({**before, **parts}, indent=2) + "\n")


def _print(speed: Speed) -> None:
    print(f"{speed.candidates} candidates (20 variants x 5 classes) x 8 batch sizes, one core, CPU seconds")
    print(f"  plan, first of a process   {speed.first_plan_seconds:8.3f} s")
    print(f"  plan, new profiles         {speed.plan_seconds:8.3f} s   (target: below 1)")
    print(f"  plan again, another rate   {speed.replan_seconds:8.3f} s   (target: below 0.1)")
    print(f"{'simulated requests per second and core':52}{'simulating':>12}{'and drawing':>14}")
    for rate in speed.rates:
        simulated, drawn = rate.simulated_per_second / 1e6, rate.with_drawing_per_second / 1e6
        print(f"  {rate.name:50}{simulated:10.1f} M{drawn:12.1f} M")


if __name__ == "__main__":
    main()
