"""The life of a CycleJob on a real API server: a table of steps, each with what it must lead to."""

import pytest

from tests.api.job_steps import (
    COMPRESSED,
    PROFILED,
    TRAINED,
    Case,
    change,
    check_children,
    end,
    end_first_worker,
    expect,
    gone,
    jobs,
    profiles_outlive,
    progress_at,
    report,
    start_workers,
)
from tests.api.job_world import JobWorld, hardware_class
from tests.api.operator_process import wait_until
from tests.api.reports import baselines, failure, profile, progress, trained, variants, world

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
    "without a launcher the first worker's end is the training's": Case(
        [
            jobs("worker"),
            start_workers,
            report("worker", world(transport="Gloo")),
            expect("WorldVerified", "True", "WorldAsSpecified", "over Gloo"),
            lambda w: check_children(w, "configmaps/demo-config", "jobs/demo-worker", "services/demo-workers"),
            report("worker", trained()),
            end_first_worker,
            expect("Trained", "True", "TrainingFinished"),
            jobs("worker", "compress"),
        ],
        spec={"workers": {"backend": "Torchrun"}},
    ),
    "ranks that talk otherwise than the spec says fail the job": Case(
        [report("worker", world()), expect("Succeeded", "False", "WorldMismatch", "talk over MPI"), jobs()],
        spec={"workers": {"transport": "Gloo"}},
    ),
    "without a launcher workers that fail too often fail the job": Case(
        [
            end("worker", 1),
            expect("Succeeded", "False", "BackoffLimitExceeded", "training failed once"),
            jobs("worker"),
        ],
        spec={"workers": {"transport": "Gloo"}},
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
    CASES[name].run(job_world)


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
