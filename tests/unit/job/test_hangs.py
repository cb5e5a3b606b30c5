"""A training of which nothing is heard: started anew while restarts are left, then failed."""

import datetime as dt
from typing import Any

import pytest

from cycleops.api.cyclejob_status import CycleJobStatus, Goodput, GoodputState
from cycleops.api.reasons import Reason
from cycleops.job.decide import decide
from cycleops.job.decision import Step
from cycleops.job.desired import desired_children, unwanted_children
from cycleops.job.observation import Observation
from cycleops.job.status import requeue_after_seconds, status_of
from tests.unit.job.make import NOW, WORLD, child, observe, world_report

WORKER, LAUNCHER = child("worker", active=2, ready=2), child("launcher", active=1, ready=1)


def ago(seconds: float) -> dt.datetime:
    return NOW - dt.timedelta(seconds=seconds)


def silent(
    seconds: float, *, state: GoodputState = GoodputState.TRAINING, failures: int = 0, **spec: Any
) -> Observation:
    """The example with progressDeadlineSeconds 100; a pod last reported so many seconds ago."""
    status = CycleJobStatus(
        start_time=ago(1000), world=WORLD, goodput=Goodput(state=state, since=ago(500)), earlier_failures=failures,
        restarts=failures,
    )  # fmt: skip
    spec = {"runPolicy": {"progressDeadlineSeconds": 100, "backoffLimit": 2}} | spec
    return observe(WORKER, LAUNCHER, status=status, spec=spec, heard=ago(seconds))


@pytest.mark.parametrize(
    ("observation", "step"),
    [
        (silent(99), Step.TRAIN),
        (silent(101), Step.RESTART),
        (silent(101, failures=1), Step.RESTART),
        (silent(101, failures=2), Step.FAIL),
        (silent(101, state=GoodputState.STARTING), Step.TRAIN),
        (silent(101, state=GoodputState.RESTARTING), Step.TRAIN),
        (silent(101, suspend=True), Step.SUSPEND),
    ],
)
def test_what_is_done_about_silence(observation: Observation, step: Step) -> None:
    assert decide(observation).step is step


def test_an_operator_that_was_away_waits_from_its_own_start() -> None:
    assert decide(silent(5)).step is Step.TRAIN


def test_a_restart_deletes_all_ranks_and_counts_as_a_failure() -> None:
    o = silent(101, failures=1)
    decision = decide(o)
    assert decision.reason == Reason.HANGS and "100 s after the world" in decision.message
    assert desired_children(o, decision.step) == []
    assert {facts.name for facts in unwanted_children(o, decision.step)} == {"supersense-launcher", "supersense-worker"}
    status = status_of(o, decision)
    assert (status.restarts, status.earlier_failures) == (2, 2)
    assert status.goodput is not None and status.goodput.state is GoodputState.RESTARTING
    assert status.failure is not None and status.failure.reason == "Hangs"


def test_the_new_launcher_has_the_restarts_that_are_left() -> None:
    o = observe(status=silent(0, failures=1).evidence, spec={"runPolicy": {"backoffLimit": 2}})
    (launcher,) = (b for b in desired_children(o, Step.TRAIN) if b["metadata"]["name"] == "supersense-launcher")
    assert launcher["spec"]["backoffLimit"] == 1


def test_a_job_without_restarts_left_says_what_to_do() -> None:
    decision = decide(silent(101, failures=2))
    assert decision.reason == Reason.PROGRESS_DEADLINE_EXCEEDED
    assert "raise spec.runPolicy.progressDeadlineSeconds" in decision.message


def test_it_looks_again_when_the_silence_would_be_too_long() -> None:
    o = silent(60)
    decision = decide(o)
    assert requeue_after_seconds(o, decision, status_of(o, decision)) == pytest.approx(40, abs=1)


def test_it_looks_again_also_when_nothing_but_the_world_was_reported() -> None:
    """The pass that stores the world is the last one that something causes, when a rank hangs right after."""
    o = observe(
        WORKER, LAUNCHER, reports=(world_report(),), spec={"runPolicy": {"progressDeadlineSeconds": 100}},
        status=CycleJobStatus(start_time=ago(1000), goodput=Goodput(state=GoodputState.RESTARTING, since=ago(500))),
    )  # fmt: skip
    decision = decide(o)
    assert requeue_after_seconds(o, decision, status_of(o, decision)) == pytest.approx(100, abs=1)
