"""When rank 0 reports progress, and what: means over the steps since the last report."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from cycle_trainer.plan import StepPlan
from cycle_wire.reports import ProgressReport

EVERY_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """One finished optimizer step; ``number`` counts from 1."""

    number: int
    loss: float
    learning_rate: float
    pre_seconds: float
    compute_seconds: float


class Progress:
    """``clock`` gives seconds from any fixed point."""

    def __init__(self, *, plan: StepPlan, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._clock = clock
        self._reported_at = clock()
        self._steps: list[tuple[Step, float]] = []
        self.last_loss = 0.0

    def after(self, step: Step, *, post_seconds: float) -> ProgressReport | None:
        """Take in a finished step; a report when one is due or the step is the last."""
        self._steps.append((step, post_seconds))
        self.last_loss = step.loss
        now = self._clock()
        elapsed = now - self._reported_at
        if elapsed < EVERY_SECONDS and step.number < self._plan.total_steps:
            return None
        count = len(self._steps)
        report = ProgressReport(
            step=step.number,
            total_steps=self._plan.total_steps,
            loss=sum(s.loss for s, _ in self._steps) / count,
            learning_rate=step.learning_rate,
            samples_per_second=count * self._plan.global_batch_size / max(elapsed, 1e-9),
            pre_seconds=sum(s.pre_seconds for s, _ in self._steps) / count,
            compute_seconds=sum(s.compute_seconds for s, _ in self._steps) / count,
            post_seconds=sum(post for _, post in self._steps) / count,
        )
        self._reported_at = now
        self._steps = []
        return report
