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
    forward_seconds: float
    backward_seconds: float
    all_reduce_seconds: float


class Progress:
    """``first_step``: steps that were done before. ``clock`` gives seconds from any fixed point."""

    def __init__(self, *, plan: StepPlan, first_step: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._first_step = first_step
        self._productive_seconds, self._checkpointing_seconds = 0.0, 0.0
        self._clock = clock
        self._reported_at = clock()
        self._steps: list[tuple[Step, float]] = []
        self.last_loss = 0.0

    def after(self, step: Step, *, post_seconds: float) -> ProgressReport | None:
        """Take in a finished step; a report when one is due or the step is the last."""
        self._steps.append((step, post_seconds))
        self._productive_seconds += step.pre_seconds + step.compute_seconds
        self._checkpointing_seconds += post_seconds
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
            forward_seconds=sum(s.forward_seconds for s, _ in self._steps) / count,
            backward_seconds=sum(s.backward_seconds for s, _ in self._steps) / count,
            all_reduce_seconds=sum(s.all_reduce_seconds for s, _ in self._steps) / count,
            first_step=self._first_step,
            attempt_productive_seconds=self._productive_seconds,
            attempt_checkpointing_seconds=self._checkpointing_seconds,
        )
        self._reported_at = now
        self._steps = []
        return report
