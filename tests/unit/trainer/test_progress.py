"""Progress is reported each 5 s and at the end, with means over the steps between."""

import pytest

from cycle_trainer.plan import StepPlan
from cycle_trainer.progress import Progress, Step


def step(number: int, loss: float) -> Step:
    return Step(
        number=number,
        loss=loss,
        learning_rate=0.5,
        pre_seconds=0.1 * number,
        compute_seconds=1.0,
        forward_seconds=0.3,
        backward_seconds=0.5,
        all_reduce_seconds=0.1 * number,
    )


def test_due_after_five_seconds_and_at_the_end() -> None:
    now = 100.0
    plan = StepPlan(rows=10, total_steps=4, global_batch_size=8, micro_batch_size=8, seed=0)
    progress = Progress(plan=plan, clock=lambda: now)
    now += 3
    assert progress.after(step(1, loss=4.0), post_seconds=0.2) is None
    now += 3
    report = progress.after(step(2, loss=2.0), post_seconds=0.4)
    assert report is not None
    assert (report.step, report.total_steps, report.loss) == (2, 4, 3.0)
    assert report.samples_per_second == pytest.approx(2 * 8 / 6)
    assert report.pre_seconds == pytest.approx(0.15) and report.post_seconds == pytest.approx(0.3)
    now += 3
    assert progress.after(step(3, loss=1.0), post_seconds=0.0) is None
    last = progress.after(step(4, loss=0.5), post_seconds=0.0)
    assert last is not None and last.loss == 0.75 and progress.last_loss == 0.5


def test_an_attempt_is_counted_from_its_start_whatever_was_reported_before() -> None:
    now = 0.0
    plan = StepPlan(rows=10, total_steps=23, global_batch_size=8, micro_batch_size=8, seed=0)
    progress = Progress(plan=plan, first_step=20, clock=lambda: now)
    reports = []
    for number in (21, 22, 23):
        now += 6
        reports.append(progress.after(step(number, loss=1.0), post_seconds=0.5))
    last = reports[-1]
    assert last is not None and last.first_step == 20
    assert last.attempt_productive_seconds == pytest.approx(3 * 1.0 + 2.1 + 2.2 + 2.3)
    assert last.attempt_checkpointing_seconds == pytest.approx(1.5)
    assert last.forward_seconds == pytest.approx(0.3) and last.all_reduce_seconds == pytest.approx(2.3)
