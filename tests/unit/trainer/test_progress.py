"""Progress is reported each 5 s and at the end, with means over the steps between."""

import pytest

from cycle_trainer.plan import StepPlan
from cycle_trainer.progress import Progress, Step


def step(number: int, loss: float) -> Step:
    return Step(number=number, loss=loss, learning_rate=0.5, pre_seconds=0.1 * number, compute_seconds=1.0)


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
