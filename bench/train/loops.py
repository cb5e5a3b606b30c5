"""The loops that are compared: each is a generator that trains and yields after every optimizer step.

They differ in nothing but the loop: the model, the optimizer's groups and rates, the clipping, the attention kernel,
the dropout (off, as our loop has it when no row comes twice) and the batches are the same, made by the same code.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.attention import sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from cycle_trainer.collective import join
from cycle_trainer.loop import ATTENTION, disable_dropout, steps
from cycle_trainer.optimizer import MAXIMUM_GRADIENT_NORM, make_optimizer, set_learning_rate
from cycle_trainer.plan import StepPlan, rate_scale
from cycle_trainer.progress import Step
from cycle_trainer.tasks.base import Batch, Task
from cycle_wire.training import TrainingConfig


@dataclass(frozen=True)
class Setting:
    """What every loop gets."""

    config: TrainingConfig
    task: Task
    plan: StepPlan
    rank: int
    size: int

    @property
    def accumulation(self) -> int:
        return self.plan.accumulation(world_size=self.size)


Loop = Callable[[Setting], Iterator[Step | None]]


def ours(setting: Setting) -> Iterator[Step]:
    """As cycle_trainer.train does it, with the backend of the spec."""
    collective = join(setting.config.world.backend)
    model = setting.task.pretrained()
    made = make_optimizer(model, head=setting.task.head(model), training=setting.config.training)
    return steps(
        model=model,
        task=setting.task,
        optimizer=collective.wrap(made, model=model, accumulation=setting.accumulation),
        plan=setting.plan,
        training=setting.config.training,
        collective=collective,
    )


def bare_ddp(setting: Setting) -> Iterator[None]:
    """torch's DistributedDataParallel with the settings its tuning guide advises, and a DataLoader."""
    dist.init_process_group("gloo")
    model = setting.task.pretrained()
    optimizer = make_optimizer(model, head=setting.task.head(model), training=setting.config.training)
    _ready(model)
    wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True)
    batches = _batches(setting)
    accumulation = setting.accumulation
    for number in range(setting.plan.total_steps):
        _set_rate(optimizer, number, setting)
        loss_sum = 0.0
        for place in range(accumulation):
            wrapped.require_backward_grad_sync = place == accumulation - 1  # what no_sync() sets
            with sdpa_kernel(ATTENTION):
                loss = setting.task.loss(wrapped, next(batches)) / accumulation
            loss.backward()
            loss_sum += loss.item()
        nn.utils.clip_grad_norm_(model.parameters(), MAXIMUM_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
        yield


def accelerate(setting: Setting) -> Iterator[None]:
    """Hugging Face's loop as its guide on gradient accumulation shows it; the batches are each rank's already."""
    from accelerate import Accelerator

    accelerator = Accelerator(gradient_accumulation_steps=setting.accumulation, cpu=True)
    model = setting.task.pretrained()
    made = make_optimizer(model, head=setting.task.head(model), training=setting.config.training)
    _ready(model)
    wrapped, optimizer = accelerator.prepare(model, made)
    batches = _batches(setting)
    for number in range(setting.plan.total_steps):
        _set_rate(made, number, setting)
        loss_sum = 0.0
        for _ in range(setting.accumulation):
            with accelerator.accumulate(wrapped):
                with sdpa_kernel(ATTENTION):
                    loss = setting.task.loss(wrapped, next(batches))
                accelerator.backward(loss)
                loss_sum += loss.item()
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(wrapped.parameters(), MAXIMUM_GRADIENT_NORM)
                optimizer.step()
                optimizer.zero_grad()
        yield


LOOPS: dict[str, Loop] = {"ours": ours, "ddp": bare_ddp, "accelerate": accelerate}


def _ready(model: nn.Module) -> None:
    model.train()
    disable_dropout(model)


def _set_rate(optimizer: torch.optim.Optimizer, number: int, setting: Setting) -> None:
    training = setting.config.training
    scale = rate_scale(number, total_steps=setting.plan.total_steps, warmup_ratio=float(training.warmup_ratio))
    set_learning_rate(optimizer, scale=scale)


def _batches(setting: Setting) -> Iterator[Batch]:
    """The micro-batches of this rank, made by a DataLoader in this process: on one core a worker has no room."""
    plan, task = setting.plan, setting.task
    rows_of_batches = [
        rows
        for step in range(plan.total_steps)
        for rows in plan.micro_batches(step, rank=setting.rank, world_size=setting.size, lengths=task.lengths)
    ]
    loader: DataLoader[Any] = DataLoader(
        range(plan.rows),  # type: ignore[arg-type]  # row numbers, of which collate_fn makes batches
        batch_sampler=rows_of_batches,
        collate_fn=task.batch,
    )
    return iter(loader)
