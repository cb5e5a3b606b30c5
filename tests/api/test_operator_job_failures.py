"""What becomes of a CycleJob whose training hangs or exits with a code of the user's, on a real API server."""

import pytest

from tests.api.job_steps import (
    Case,
    another_launcher,
    end,
    evict_first_worker,
    expect,
    first_worker_replaced,
    jobs,
    old_workers_first,
    progress_at,
    remember_launcher,
    report,
    start_workers,
)
from tests.api.job_world import JobWorld
from tests.api.operator_process import wait_until
from tests.api.reports import progress, trained, world

CASES = {
    "a training that hangs is started anew, and fails when no restart is left": Case(
        [
            start_workers,
            report("worker", world(), progress(20)),
            progress_at(20),
            remember_launcher,
            lambda w: w.hold(w.wait_for_pods("worker", 2)[0]),
            expect("Succeeded", "Unknown", "Restarting", "after step 20", seconds=20),
            lambda w: wait_until(lambda: w.status().get("restarts") == 1),
            another_launcher,
            old_workers_first,
            lambda w: wait_until(lambda: w.jobs()["launcher"]["spec"]["backoffLimit"] == 0),
            lambda w: w.wait_for_pods("worker", 2),
            report("worker", world(), progress(5)),
            expect("Succeeded", "Unknown", "Training", "after failing once"),
            lambda w: wait_until(lambda: w.status()["goodput"]["state"] == "Training"),
            expect("Succeeded", "False", "ProgressDeadlineExceeded", "raise spec.runPolicy", seconds=20),
            jobs(),
        ],
        spec={"runPolicy": {"progressDeadlineSeconds": 3, "backoffLimit": 1}},
    ),
    "an evicted worker is replaced, and a job that fails leaves nobody running": Case(
        [
            start_workers,
            evict_first_worker,
            first_worker_replaced,
            expect("Succeeded", "Unknown", "Starting"),
            end("launcher", 1),
            expect("Failed", "True", "BackoffLimitExceeded"),
            jobs("launcher"),
            lambda w: wait_until(lambda: not w.pods("worker")),
        ],
        spec={"runPolicy": {"backoffLimit": 0}},
    ),
    "an exit code that is to fail the job does so at once": Case(
        [
            report("worker", world()),
            end("launcher", 42),
            expect("Succeeded", "False", "LauncherFailed", "exit code 42"),
        ],
        spec={"runPolicy": {"backoffLimit": 4, "exitCodes": [{"codes": [42], "action": "Fail"}]}},
    ),
    "an exit code that is to be ignored is not counted": Case(
        [
            report("worker", world()),
            end("launcher", 143),
            lambda w: w.wait_for_pods("launcher"),
            report("worker", world(), trained()),
            end("launcher"),
            expect("Trained", "True", "TrainingFinished"),
            lambda w: wait_until(lambda: w.status().get("restarts") == 0),
        ],
        spec={"runPolicy": {"backoffLimit": 0, "exitCodes": [{"codes": [143, 137], "action": "Ignore"}]}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_failures(job_world: JobWorld, name: str) -> None:
    CASES[name].run(job_world)
