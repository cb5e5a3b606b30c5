"""From a job's creation to all its children: CycleJob beside mpi-operator's MPIJob (`make bench-jobs`).

    python -m bench.jobs                     both, 1,000 idle jobs, 200 one by one, bursts of 1, 100 and 500
    python -m bench.jobs --idle 100 --steady 20 --bursts 1 20     for a look

Each operator gets a real API server and etcd of its own; no node, and the controller manager stands still, so that only
the operator works. mpi-operator's client limits are lifted. Prints a table and writes out/bench/jobs.json.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from pydantic.alias_generators import to_camel
from rich.console import Console
from rich.table import Table

from bench.jobs.measure import Row, measure
from bench.jobs.subjects import CYCLEOPS, MPI

SUBJECTS = {subject.name: subject for subject in (MPI, CYCLEOPS)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=int, default=1000, help="suspended jobs that are there all the time")
    parser.add_argument("--steady", type=int, default=200, help="jobs created one after the other")
    parser.add_argument("--bursts", type=int, nargs="+", default=[1, 100, 500], help="jobs created at once")
    parser.add_argument("--only", choices=sorted(SUBJECTS), help="one operator")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder of jobs.json")
    options = parser.parse_args()
    names = [options.only] if options.only else list(SUBJECTS)
    rows: list[Row] = []
    for name in names:
        rows += measure(SUBJECTS[name], idle=options.idle, steady=options.steady, bursts=options.bursts)
    _print(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "jobs.json"
    file.write_text(json.dumps([{to_camel(k): v for k, v in asdict(row).items()} for row in rows], indent=2) + "\n")
    print(f"wrote {file}")


def _print(rows: list[Row]) -> None:
    table = Table()
    heads = ("n", "steady p99 ms", "p50 ms", "p99 ms", "total s", "CPU ms/job", "writes/job", "RSS MB", "MB per 1,000")
    table.add_column("operator")
    for head in heads:
        table.add_column(head, justify="right")
    for r in rows:
        times = (f"{r.steady_p99_ms:.0f}", f"{r.p50_ms:.0f}", f"{r.p99_ms:.0f}", f"{r.total_seconds:.2f}")
        costs = (f"{r.cpu_ms_per_job:.1f}", f"{r.writes_per_job:.1f}", f"{r.operator_rss_mb:.0f}")
        table.add_row(r.operator, str(r.n), *times, *costs, f"{r.rss_mb_per_thousand_objects:.1f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
