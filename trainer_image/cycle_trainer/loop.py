"""The training loop: one generator that yields after every optimizer step. What to do then is the caller's.

One loop for all: ranks of a world (Horovod) and a single process (recovery after pruning) differ in ``collective``.
"""

import math
import queue
import threading
import time
from collections.abc import Iterator

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer

from cycle_trainer.arithmetic import autocast
from cycle_trainer.collective import Collective
from cycle_trainer.failures import BadInputError
from cycle_trainer.optimizer import clip_gradients, set_learning_rate
from cycle_trainer.plan import StepPlan, rate_scale
from cycle_trainer.progress import Step
from cycle_trainer.tasks.base import Batch, Task
from cycle_wire.parts import Training

PREFETCHED_BATCHES = 4
# On a CPU the backward pass of torch's fused attention takes twice as long as that of the plain one for short texts.
ATTENTION = SDPBackend.MATH


def steps(
    *,
    model: nn.Module,
    task: Task,
    optimizer: Optimizer,
    plan: StepPlan,
    training: Training,
    collective: Collective,
    finished_steps: int = 0,
) -> Iterator[Step]:
    """Train from after ``finished_steps`` to the end of the plan. The optimizer is wrapped by ``collective``.

    Raises BadInputError LossNotFinite, on every rank alike, before a bad gradient reaches the weights.
    """
    accumulation = plan.accumulation(world_size=collective.size)
    model.train()
    if not plan.repeats_rows:
        disable_dropout(model)
    with Feed(task=task, plan=plan, collective=collective, first_step=finished_steps) as feed:
        for number in range(finished_steps, plan.total_steps):
            scale = rate_scale(number, total_steps=plan.total_steps, warmup_ratio=float(training.warmup_ratio))
            rate = set_learning_rate(optimizer, scale=scale)
            began, waited, forward, backward, loss_sum = time.perf_counter(), 0.0, 0.0, 0.0, 0.0
            for _ in range(accumulation):
                asked = time.perf_counter()
                batch = feed.next()
                given = time.perf_counter()
                with autocast(training.precision), sdpa_kernel(ATTENTION):
                    loss = task.loss(model, batch) / accumulation
                said = time.perf_counter()
                loss.backward()
                loss_sum += float(loss.detach())
                waited, forward = waited + given - asked, forward + said - given
                backward += time.perf_counter() - said
            summing = time.perf_counter()
            mean_loss = collective.synchronize(optimizer, loss=loss_sum)
            all_reduce = time.perf_counter() - summing
            norm = clip_gradients(model)
            check_finite(loss=mean_loss, norm=norm, step=number + 1)
            with collective.stepping(optimizer):
                optimizer.step()
            optimizer.zero_grad()
            yield Step(
                number=number + 1,
                loss=mean_loss,
                learning_rate=rate,
                pre_seconds=waited,
                compute_seconds=time.perf_counter() - began - waited,
                forward_seconds=forward,
                backward_seconds=backward,
                all_reduce_seconds=all_reduce,
            )


def disable_dropout(model: nn.Module) -> None:
    """Dropout keeps a model from learning rows by heart, which it can't when it sees each once; it costs a tenth."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def check_finite(*, loss: float, norm: float, step: int) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    raise BadInputError(
        "LossNotFinite",
        f"step {step}: the loss is {loss} and the gradient's norm {norm}; lower learningRate or raise warmupRatio",
        field="spec.training.learningRate",
    )


class Feed:
    """Makes this rank's micro-batches in a thread, a few ahead of the model."""

    def __init__(self, *, task: Task, plan: StepPlan, collective: Collective, first_step: int) -> None:
        self._task = task
        self._plan = plan
        self._rank, self._world_size = collective.rank, collective.size
        self._first_step = first_step
        self._ready: queue.Queue[Batch | Exception] = queue.Queue(maxsize=PREFETCHED_BATCHES)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def __enter__(self) -> "Feed":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        while self._thread.is_alive():  # it may wait for room
            self._drain()
            self._thread.join(timeout=0.05)

    def next(self) -> Batch:
        """The next micro-batch; raises what making it raised."""
        item = self._ready.get()
        if isinstance(item, Exception):
            raise item
        return item

    def _run(self) -> None:
        try:
            for step in range(self._first_step, self._plan.total_steps):
                for rows in self._plan.micro_batches(
                    step, rank=self._rank, world_size=self._world_size, lengths=self._task.lengths
                ):
                    if self._closed.is_set():
                        return
                    self._ready.put(self._task.batch(rows))
        except Exception as error:  # noqa: BLE001  handed to the loop, which raises it
            self._ready.put(error)

    def _drain(self) -> None:
        while not self._ready.empty():
            self._ready.get_nowait()
