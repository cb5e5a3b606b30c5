"""The life of a CycleJob on a real API server: a table of steps, each with what it must lead to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.api.job_world import JobWorld, hardware_class
from tests.api.operator_process import wait_until
from tests.api.reports import baselines, failure, profile, progress, trained, variants, world

Step = Callable[[JobWorld], Any]


def expect(type: str, status: str, reason: str, words: str = "", seconds: float = 10.0) -> Step:
    return lambda w: w.expect(type, status, reason, words=words, seconds=seconds)


def report(role: str, *messages: Any) -> Step:
    return lambda w: w.report(role, *messages)


def end(role: str, exit_code: int = 0) -> Step:
    return lambda w: w.end(role, exit_code=exit_code)


def jobs(*names: str) -> Step:
    return lambda w: w.expect_jobs(*names)


def change(**spec: Any) -> Step:
    return lambda w: w.change(**spec)


def progress_at(step: int) -> Step:
    return lambda w: wait_until(lambda: w.status().get("progress", {}).get("step") == step, what=f"progress at {step}")


def start_workers(w: JobWorld) -> None:
    w.run("worker", 2)
    w.expect("Succeeded", "Unknown", "Starting", words="2 of 2 workers are ready")


def gone(w: JobWorld) -> None:
    wait_until(lambda: w.job() is None, what="the CycleJob is deleted")


def profiles_outlive(w: JobWorld) -> None:
    items = w.client.get(w.path("apis/cycleops.dev/v1alpha1", "cycleprofiles")).json()["items"]
    assert sorted(i["spec"]["variant"] for i in items) == ["bf16", "fp32"]
    assert not any("ownerReferences" in i["metadata"] for i in items)


def remember_launcher(w: JobWorld) -> None:
    w.remembered = w.jobs()["launcher"]["metadata"]["uid"]


def another_launcher(w: JobWorld) -> None:
    def there() -> bool:
        launcher = w.jobs().get("launcher")
        return launcher is not None and launcher["metadata"]["uid"] != w.remembered

    wait_until(there, what="the launcher is a new Job")


@dataclass(frozen=True)
class Case:
    steps: list[Step]
    spec: dict[str, Any] = field(default_factory=dict)


TRAINED: list[Step] = [start_workers, report("worker", world(), trained()), end("launcher")]
COMPRESSED: list[Step] = [*TRAINED, report("compress", baselines(), variants("fp32", "bf16")), end("compress")]
PROFILED: list[Step] = [*COMPRESSED, report("profile", profile("fp32"), profile("bf16")), end("profile")]

CASES = {
    "the world is as specified": Case([
        jobs("launcher", "worker"),
        start_workers,
        report("worker", world()),
        expect("WorldVerified", "True", "WorldAsSpecified", "2 ranks on demo-worker-0, demo-worker-1 over MPI"),
        expect("Succeeded", "Unknown", "Training"),
    ]),
    "a smaller world fails the job": Case([
        start_workers,
        report("worker", world(1, hosts=("demo-worker-0",))),
        expect("WorldVerified", "False", "WorldMismatch", "1 ranks on demo-worker-0"),
        expect("Succeeded", "False", "WorldMismatch", "2 workers x 1 ranks = 2"),
        expect("Failed", "True", "WorldMismatch"),
        jobs(),
    ]),
    "a world of other hosts fails the job": Case([
        report("worker", world(2, hosts=("demo-worker-0", "elsewhere"))),
        expect("Succeeded", "False", "WorldMismatch", "demo-worker-0, elsewhere"),
    ]),
    "a wrong all-reduce fails the job": Case([
        report("worker", world(total=1.0)),
        expect("Succeeded", "False", "WorldMismatch", "the transport is broken"),
    ]),
    "a launcher that ends well without a world fails the job": Case([
        report("worker", trained()),
        end("launcher"),
        expect("Succeeded", "False", "WorldNotReported", "exited 0"),
    ]),
    "a launcher that ends well without a model fails the job": Case([
        report("worker", world()),
        end("launcher"),
        expect("Succeeded", "False", "ModelNotReported"),
    ]),
    "bad input fails the job at once, with what the pod said": Case(
        [
            report("worker", failure("BadData", "train.jsonl has no field gloss", "spec.data.fields.text")),
            end("launcher", 3),
            expect("Succeeded", "False", "BadData", "spec.data.fields.text: train.jsonl has no field gloss"),
        ],
        spec={"runPolicy": {"backoffLimit": 4}},
    ),
    "a launcher that fails too often fails the job": Case([
        end("launcher", 1),
        expect("Succeeded", "False", "BackoffLimitExceeded", "training failed once, with 0 restarts allowed"),
    ]),
    "a launcher that fails is started again": Case(
        [
            report("worker", world()),
            report("worker", failure("WorkerFailed", "a rank was killed")),
            end("launcher", 1),
            expect("Succeeded", "Unknown", "Restarting", "failed once (1 restarts allowed): a rank was killed"),
            lambda w: wait_until(lambda: w.status().get("restarts") == 1),
            lambda w: w.wait_for_pods("launcher"),
            report("worker", world()),
            expect("Succeeded", "Unknown", "Training", "after failing once"),
            report("worker", trained()),
            end("launcher"),
            expect("Trained", "True", "TrainingFinished"),
        ],
        spec={"runPolicy": {"backoffLimit": 1}},
    ),
    "a training that hangs is started anew, and fails when no restart is left": Case(
        [
            start_workers,
            report("worker", world(), progress(20)),
            progress_at(20),
            remember_launcher,
            expect("Succeeded", "Unknown", "Restarting", "after step 20", seconds=20),
            lambda w: wait_until(lambda: w.status().get("restarts") == 1),
            another_launcher,
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
    "a deadline that passes fails the job and ends its pods": Case(
        [start_workers, expect("Succeeded", "False", "DeadlineExceeded", "3 s"), jobs()],
        spec={"runPolicy": {"activeDeadlineSeconds": 3}},
    ),
    "suspend ends the pods and resume starts them": Case([
        start_workers,
        change(suspend=True),
        expect("Suspended", "True", "Suspended"),
        lambda w: wait_until(lambda: not w.pods("worker") and not w.pods("launcher")),
        lambda w: wait_until(lambda: "startTime" not in w.status()),
        change(suspend=False),
        expect("Suspended", "False", "NotSuspended"),
        start_workers,
        report("worker", world()),
        expect("Succeeded", "Unknown", "Training"),
    ]),
    "a job that begins suspended has no children": Case(
        [
            expect("Suspended", "True", "Suspended"),
            expect("Admitted", "False", "Suspended"),
            jobs(),
            change(suspend=False),
            jobs("launcher", "worker"),
        ],
        spec={"suspend": True},
    ),
    "a missing claim is waited for, and named": Case(
        [
            expect("Admitted", "False", "ClaimNotFound", "spec.data.train: there is no PersistentVolumeClaim else"),
            expect("Succeeded", "Unknown", "ClaimNotFound"),
            jobs(),
            lambda w: w.claims("elsewhere"),
            expect("Admitted", "True", "Admitted", seconds=15),
            jobs("launcher", "worker"),
        ],
        spec={"data": {"train": "pvc://elsewhere/train.jsonl"}},
    ),
    "a missing class is waited for, and named": Case(
        [
            expect("Succeeded", "Unknown", "HardwareClassNotFound", "there is no HardwareClass late"),
            lambda w: hardware_class(w.client, "late"),
            jobs("launcher", "worker"),
            lambda w: w.client.delete("/apis/cycleops.dev/v1alpha1/hardwareclasses/late"),
        ],
        spec={"workers": {"hardware": "late"}},
    ),
    "batches that don't divide fail the job, and name the fields": Case(
        [expect("Succeeded", "False", "BadConfiguration", "spec.training.globalBatchSize 48"), jobs()],
        spec={"training": {"globalBatchSize": 48}},
    ),
    "training, compression and profiling lead to success": Case([
        start_workers,
        report("worker", world(), progress(50)),
        progress_at(50),
        report("worker", progress(300), trained()),
        progress_at(300),
        end("launcher"),
        expect("Trained", "True", "TrainingFinished", "sha256-abab"),
        jobs("launcher", "compress"),
        report("compress", baselines(), variants("fp32", "bf16")),
        end("compress"),
        expect("Compressed", "True", "VariantsMade"),
        jobs("launcher", "compress", "profile-small"),
        report("profile", profile("fp32"), profile("bf16")),
        end("profile"),
        expect("Profiled", "True", "ProfilesMade"),
        expect("Succeeded", "True", "Finished"),
        expect("Failed", "False", "NotFailed"),
        jobs("launcher", "compress", "profile-small"),
        profiles_outlive,
    ]),
    "a compression that fails, fails the job": Case([
        *TRAINED,
        report("compress", failure("VariantUnsupported", "variant bf16 can't be made", "spec.variants")),
        end("compress", 3),
        expect("Succeeded", "False", "VariantUnsupported", "variant bf16"),
    ]),
    "a compression that ends without its variants fails the job": Case([
        *TRAINED,
        report("compress", variants("fp32")),
        end("compress"),
        expect("Succeeded", "False", "CompressionFailed", "bf16"),
    ]),
    "a profiling that ends without its profiles fails the job": Case([
        *COMPRESSED,
        report("profile", profile("fp32")),
        end("profile"),
        expect("Succeeded", "False", "ProfilingFailed", "bf16"),
    ]),
    "cleanPodPolicy All deletes every Job": Case(
        [*PROFILED, expect("Succeeded", "True", "Finished"), jobs()], spec={"runPolicy": {"cleanPodPolicy": "All"}}
    ),
    "cleanPodPolicy None keeps every Job": Case(
        [
            *PROFILED,
            expect("Succeeded", "True", "Finished"),
            jobs("worker", "launcher", "compress", "profile-small"),
        ],
        spec={"runPolicy": {"cleanPodPolicy": "None"}},
    ),
    "the time to live of an ended job deletes it, and not its evidence": Case(
        [*PROFILED, gone, profiles_outlive], spec={"runPolicy": {"ttlSecondsAfterFinished": 1}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_life(job_world: JobWorld, name: str) -> None:
    case = CASES[name]
    job_world.create(**case.spec)
    for step in case.steps:
        step(job_world)


def test_a_name_that_is_taken_is_shown_and_never_adopted(job_world: JobWorld) -> None:
    theirs = {"metadata": {"name": "demo-config"}, "data": {"mine": "yes"}}
    path = job_world.path("api/v1", "configmaps")
    made = job_world.client.post(path, json=theirs).raise_for_status().json()
    job_world.create()
    job_world.expect("Admitted", "False", "NameTaken", words="ConfigMap demo-config exists already and has no owner")
    kept = job_world.client.get(f"{path}/demo-config").json()
    assert kept["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    job_world.client.delete(f"{path}/demo-config").raise_for_status()
    job_world.expect("Admitted", "True", "Admitted", seconds=20)
    assert "configmaps/demo-config" in job_world.children()
