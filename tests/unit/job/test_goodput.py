"""Where the seconds of a training went, told as the story of one job, pass by pass, as the operator sees it."""

import dataclasses
import datetime as dt
from typing import Any

import pytest

from cycle_wire.reports import Message
from cycleops.api.cyclejob_status import CycleJobStatus, Goodput, GoodputState
from cycleops.controller.store import Facts
from cycleops.job.decide import decide
from cycleops.job.goodput import spent
from cycleops.job.status import status_of
from tests.unit.job.make import (
    NOW,
    child,
    ended,
    observe,
    progress_report,
    trained_report,
    world_report,
)

RUNNING = (child("worker", active=2, ready=2), child("launcher", active=1, ready=1))


class Story:
    """Passes over the example's job, created at NOW; times are seconds since then."""

    def __init__(self) -> None:
        self.status = CycleJobStatus()

    def at(self, seconds: float, *children: Facts, reports: tuple[Message, ...] = (), **changes: Any) -> Goodput:
        o = observe(*children, status=self.status, reports=reports, **changes)
        metadata = o.job.metadata.model_copy(update={"creation_timestamp": NOW})
        now = NOW + dt.timedelta(seconds=seconds)
        o = dataclasses.replace(o, job=o.job.model_copy(update={"metadata": metadata}), now=now)
        self.status = status_of(o, decide(o))
        assert self.status.goodput is not None
        return self.status.goodput


def test_a_quiet_job_is_queued_starts_trains_and_ends() -> None:
    story = Story()
    assert story.at(0, claims={"models": None, "data": None}).state is GoodputState.QUEUED
    assert story.at(40, *RUNNING).state is GoodputState.STARTING
    assert story.at(60, *RUNNING, reports=(world_report(),)).state is GoodputState.TRAINING
    running = story.at(100, *RUNNING, reports=(progress_report(150, productive=30, checkpointing=5),))
    assert (running.queued_seconds, running.starting_seconds, running.productive_seconds) == (40, 20, 30)
    assert running.ratio == pytest.approx(30 / (40 + 20 + 35), abs=0.001)
    over = story.at(
        140, RUNNING[0], ended("launcher"),
        reports=(progress_report(300, productive=62, checkpointing=9), trained_report()),
    )  # fmt: skip
    assert over.state is GoodputState.ENDED and over.attempt is None
    assert (over.productive_seconds, over.checkpointing_seconds, over.training_seconds) == (62, 9, 80)
    assert over.ratio == pytest.approx(62 / 140, abs=0.001)
    assert story.at(1000, ended("compress")) == over


def test_steps_behind_the_checkpoint_are_lost_and_a_restart_has_its_own_clock() -> None:
    story = Story()
    story.at(0, *RUNNING)
    story.at(10, *RUNNING, reports=(world_report(),))
    story.at(50, *RUNNING, reports=(progress_report(100, productive=40),))
    failed = child("launcher", active=1, failed=1)
    assert story.at(60, RUNNING[0], failed).state is GoodputState.RESTARTING
    again = story.at(90, RUNNING[0], failed, reports=(world_report(),))
    assert again.state is GoodputState.TRAINING
    assert (again.training_seconds, again.restarting_seconds, again.productive_seconds) == (50, 30, 40)
    resumed = story.at(100, RUNNING[0], failed, reports=(progress_report(90, first_step=75, productive=6),))
    assert (resumed.lost_steps, resumed.lost_seconds) == (25, 10)
    assert resumed.productive_seconds == 40 - 10 + 6


def test_without_a_checkpoint_all_is_lost() -> None:
    story = Story()
    story.at(0, *RUNNING)
    story.at(10, *RUNNING, reports=(world_report(),))
    story.at(50, *RUNNING, reports=(progress_report(100, productive=40),))
    failed = child("launcher", active=1, failed=1)
    story.at(60, RUNNING[0], failed, reports=(world_report(),))
    again = story.at(70, RUNNING[0], failed, reports=(progress_report(10, productive=4),))
    assert (again.lost_steps, again.lost_seconds, again.productive_seconds) == (100, 40, 4)


def test_a_suspension_is_nobodys_loss() -> None:
    story = Story()
    story.at(0, *RUNNING)
    story.at(10, *RUNNING, reports=(world_report(),))
    story.at(50, *RUNNING, reports=(progress_report(100, productive=40),))
    assert story.at(60, *RUNNING, spec={"suspend": True}).state is GoodputState.SUSPENDED
    assert story.at(160, *RUNNING).state is GoodputState.RESTARTING
    on = story.at(180, *RUNNING, reports=(world_report(),))
    assert (on.suspended_seconds, on.restarting_seconds, on.training_seconds) == (100, 20, 50)
    assert on.queued_seconds == 0


def test_a_pass_in_which_nothing_happens_changes_nothing() -> None:
    story = Story()
    story.at(0, *RUNNING)
    story.at(10, *RUNNING, reports=(world_report(),))
    before = story.at(50, *RUNNING, reports=(progress_report(100, productive=40),))
    assert story.at(500, *RUNNING) == before


def test_the_parts_of_the_account_add_up_to_the_time_that_passed() -> None:
    story = Story()
    story.at(5, *RUNNING)
    story.at(10, *RUNNING, reports=(world_report(),))
    story.at(60, RUNNING[0], child("launcher", active=1, failed=1))
    story.at(70, *RUNNING, spec={"suspend": True})
    story.at(80, RUNNING[0], child("launcher", active=1, failed=1))
    story.at(95, RUNNING[0], child("launcher", active=1, failed=1), reports=(world_report(),))
    last = story.at(120, RUNNING[0], ended("launcher"), reports=(progress_report(300, productive=20), trained_report()))
    clocks = (last.queued_seconds, last.starting_seconds, last.training_seconds)
    assert sum((*clocks, last.restarting_seconds, last.suspended_seconds)) == 120


def test_what_a_pass_added_for_the_counters() -> None:
    story = Story()
    first = story.at(5, *RUNNING)
    assert spent(None, first) == {"queued": 5}
    second = story.at(15, *RUNNING, reports=(world_report(),))
    assert spent(first, second) == {"starting": 10}
    assert spent(second, second) == {}


def test_the_estimated_end_of_the_training() -> None:
    o = observe(*RUNNING, reports=(progress_report(100),))
    progress = o.evidence.progress
    assert progress is not None and progress.estimated_completion_time == NOW + dt.timedelta(seconds=200 * 0.6)


def test_while_the_launcher_saves_the_model_the_training_goes_on() -> None:
    story = Story()
    story.at(0, *RUNNING)
    story.at(10, *RUNNING, reports=(world_report(),))
    assert story.at(20, *RUNNING, reports=(trained_report(),)).state is GoodputState.TRAINING
