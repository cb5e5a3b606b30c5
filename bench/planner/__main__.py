"""Speed of the planner, printed and written to ``out/bench/planner.json``.

    make bench-planner
    python -m bench.planner --out out/bench

``scenarios``, ``policies`` and ``rules`` of the file belong to measurements of their own and are kept as they are found.
"""

import argparse
import json
import platform
from pathlib import Path

from bench.planner.speed import Speed, measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder of planner.json")
    folder: Path = parser.parse_args().out
    speed = measure()
    _print(speed)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "planner.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    content = before | {
        "planSeconds": speed.plan_seconds,
        "replanSeconds": speed.replan_seconds,
        "simulatedRequestsPerSecond": speed.rates[0].simulated_per_second,
        "scenarios": before.get("scenarios", []),
        "policies": before.get("policies", []),
        "speed": speed.to_dict(),
        "machine": platform.processor() or platform.machine(),
    }
    file.write_text(json.dumps(content, indent=2) + "\n")
    print(f"wrote {file}")


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
