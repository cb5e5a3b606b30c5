"""What status says, and that saying it twice changes nothing."""

import dataclasses
import datetime as dt
import math
from typing import Any

import pytest

from cycle_wire.reports import FailureReport
from cycleops.api.cyclejob import CycleJob
from cycleops.api.cyclejob_status import CycleJobStatus
from cycleops.controller.apply import Problem, merge_patch
from cycleops.job.decide import decide
from cycleops.job.decision import Step
from cycleops.job.observation import Observation
from cycleops.job.pod_notes import pod_notes
from cycleops.job.status import refused, requeue_after_seconds, status_of
from tests.unit.job.make import (
    NOW,
    baseline_report,
    checkpoint_report,
    child,
    ended,
    evidence,
    observe,
    progress_report,
    trained_report,
    variant_report,
    world_report,
)


def status(o: Observation, problems: tuple[Problem, ...] = ()) -> CycleJobStatus:
    return status_of(o, refused(decide(o), problems))


def conditions(o: Observation, problems: tuple[Problem, ...] = ()) -> dict[str, tuple[str, str]]:
    return {c.type: (str(c.status), c.reason) for c in status(o, problems).conditions}


OBSERVATIONS = {
    "fresh": observe(),
    "waiting": observe(claims={"models": None, "data": ()}),
    "suspended": observe(child("worker"), spec={"suspend": True}),
    "training": observe(child("worker", ready=2), reports=(world_report(), progress_report(5), checkpoint_report(5))),
    "failed": observe(reports=(world_report(total=3.5),)),
    "compressing": observe(ended("launcher"), status=evidence("world", "model")),
    "done": observe(ended("launcher"), status=evidence("world", "model", "variants", "profiles")),
}


@pytest.mark.parametrize("name", list(OBSERVATIONS))
def test_a_second_pass_says_the_same(name: str) -> None:
    first = OBSERVATIONS[name]
    stored = status(first).to_dict()
    body = {**first.job.to_dict(), "status": stored}
    job = CycleJob.model_validate(body)
    later = NOW + dt.timedelta(seconds=30)
    again = dataclasses.replace(first, job=job, evidence=job.status, deliveries=(), now=later)
    assert merge_patch(stored, status(again).to_dict()) == {}


def test_every_condition_is_there_from_the_start() -> None:
    found = conditions(observe())
    assert list(found) == [
        "Suspended", "Admitted", "WorldVerified", "Trained", "Compressed", "Profiled", "Succeeded", "Failed",
    ]  # fmt: skip
    assert found["Succeeded"] == ("Unknown", "Starting")
    assert found["Failed"] == ("False", "NotFailed")


@pytest.mark.parametrize("name", list(OBSERVATIONS))
def test_failed_exactly_when_succeeded_is_false(name: str) -> None:
    found = conditions(OBSERVATIONS[name])
    assert (found["Failed"][0] == "True") == (found["Succeeded"][0] == "False")
    if found["Failed"][0] == "True":
        assert found["Failed"] == ("True", found["Succeeded"][1])


def test_claims_that_one_node_mounts_are_reported_to_a_job_of_many() -> None:
    once = observe(claims={"models": ("ReadWriteOnce",), "data": ("ReadWriteMany", "ReadWriteOnce")})
    (admitted,) = [c for c in status(once).conditions if c.type == "Admitted"]
    assert (admitted.status, admitted.reason) == ("True", "ClaimReadWriteOnce")
    assert "only one node can mount at a time: models;" in admitted.message
    job = CycleJob.model_validate({**once.job.to_dict(), "status": status(once).to_dict()})
    later = dataclasses.replace(once, job=job, evidence=job.status, claims={})
    assert admitted in status(later).conditions
    alone = observe(claims={"models": ("ReadWriteOnce",)}, spec={"workers": {"replicas": 1}})
    assert conditions(alone)["Admitted"] == ("True", "Admitted")


def test_reports_are_folded_in() -> None:
    reports = (world_report(), progress_report(300, loss=math.nan), checkpoint_report(250), trained_report(math.inf))
    folded = status(observe(reports=reports))
    assert folded.world is not None and folded.world.transport == "MPI" and folded.world.time == NOW
    assert folded.progress is not None and (folded.progress.step, folded.progress.loss) == (300, None)
    assert folded.last_checkpoint is not None and folded.last_checkpoint.step == 250
    assert folded.model is not None and folded.model.final_loss is None


def test_variants_and_baselines_are_folded_in() -> None:
    before = observe(ended("launcher"), status=evidence("world", "model"))
    after = observe(
        ended("launcher"), status=evidence("world", "model"), reports=(baseline_report(), variant_report(before))
    )
    folded = status(after)
    assert folded.baselines is not None
    assert [v.uri.rsplit("/", 2)[1:] for v in folded.variants][0] == ["variants", "fp32"]
    assert folded.variants[0].sparsity == 0.25


def test_a_new_attempt_forgets_why_the_one_before_failed() -> None:
    failure = FailureReport(reason="WorkersUnreachable", message="m")
    assert status(observe(reports=(failure,))).failure is not None
    assert status(observe(reports=(failure, world_report()))).failure is None


def test_transitions_keep_their_time() -> None:
    first = status(observe())
    body = {**observe().job.to_dict(), "status": first.to_dict()}
    job = CycleJob.model_validate(body)
    later = dataclasses.replace(
        observe(child("worker", ready=2)), job=job, evidence=job.status, now=NOW + dt.timedelta(seconds=9)
    )
    (succeeded,) = [c for c in status(later).conditions if c.type == "Succeeded"]
    assert succeeded.message == "2 of 2 workers are ready"
    assert succeeded.last_transition_time == NOW


def test_a_refused_child_is_shown_and_tried_again() -> None:
    taken = Problem("Service", "supersense-workers", "NameTaken", "Service supersense-workers exists already")
    o = observe()
    found = conditions(o, (taken,))
    assert found["Admitted"] == ("False", "NameTaken")
    assert found["Succeeded"] == ("Unknown", "NameTaken")
    decision = refused(decide(o), (taken,))
    assert requeue_after_seconds(o, decision, status_of(o, decision)) == pytest.approx(10.05)
    forbidden = Problem("Job", "supersense-worker", "Forbidden", "exceeded quota")
    assert conditions(o, (forbidden,))["Admitted"] == ("False", "Refused")


def test_an_ended_job_stays_ended_whatever_is_refused() -> None:
    o = OBSERVATIONS["done"]
    problem = Problem("Job", "x", "Forbidden", "m")
    assert refused(decide(o), (problem,)).step is Step.SUCCEED


def requeue(o: Observation) -> float | None:
    decision = decide(o)
    return requeue_after_seconds(o, decision, status_of(o, decision))


def test_it_looks_again_at_the_deadline_and_at_the_end_of_the_time_to_live() -> None:
    started = evidence("world").model_copy(update={"start_time": NOW - dt.timedelta(seconds=3000)})
    assert requeue(observe(status=started)) == pytest.approx(600.05)
    assert requeue(observe(claims={"models": (), "data": None})) == pytest.approx(5.05)
    done = evidence("world", "model", "variants", "profiles")
    assert requeue(observe(ended("launcher"), status=done)) is None
    ttl: dict[str, Any] = {"runPolicy": {"ttlSecondsAfterFinished": 60}}
    assert requeue(observe(ended("launcher"), status=done, spec=ttl)) == pytest.approx(60.05)


def test_start_time_is_of_the_first_pods_and_begins_anew_after_suspend() -> None:
    assert status(observe()).start_time == NOW
    assert status(observe(claims={"models": None})).start_time is None
    assert status(observe(status=evidence("world"), spec={"suspend": True})).start_time is None


def test_restarts_never_decrease() -> None:
    before = CycleJobStatus(restarts=2)
    assert status(observe(child("launcher", failed=1), status=before)).restarts == 2
    assert status(observe(child("launcher", failed=3), status=before)).restarts == 3


def pod(name: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": status}


def test_pod_notes_say_why_and_stay_the_same() -> None:
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}
    pulling = {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
    creating = {"state": {"waiting": {"reason": "ContainerCreating"}}}
    killed = {"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "last\nwords"}}}
    well = {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    pods = [
        pod("d", containerStatuses=[killed]), pod("a", conditions=[unscheduled]), pod("b", containerStatuses=[pulling]),
        pod("c", containerStatuses=[creating]), pod("e", containerStatuses=[well]),
    ]  # fmt: skip
    notes = pod_notes(pods)
    assert notes == pod_notes(reversed(pods))
    assert notes == (
        "pod a can't be scheduled: 0/1 nodes are available",
        "pod b: ErrImagePull: no such image",
        "pod d ended with 137 (OOMKilled) last words",
    )
