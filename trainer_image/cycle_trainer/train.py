"""One rank of the training: join the world, prove it, resume, train, save. Rank 0 reports."""

import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cycle_server.engine.model import WEIGHTS_FILE, write_weights
from cycle_trainer import checkpoint
from cycle_trainer.arithmetic import autocast, computed_in
from cycle_trainer.collective import Collective, World, join
from cycle_trainer.failures import BadInputError, no_space_left, report_failure, write_termination_message
from cycle_trainer.files import digest_of, folder_of_digest, publish, remove_leftovers, scratch_folder
from cycle_trainer.loop import steps
from cycle_trainer.optimizer import make_optimizer, training_tensors
from cycle_trainer.plan import StepPlan
from cycle_trainer.progress import Progress
from cycle_trainer.tasks import task_of
from cycle_trainer.tasks.base import Task
from cycle_trainer.world import attest, check_world
from cycle_wire.reports import CheckpointReport, ProgressReport, TrainedReport
from cycle_wire.sender import Sender
from cycle_wire.training import TrainingConfig

logger = logging.getLogger(__name__)
T = TypeVar("T")


def run(config: TrainingConfig) -> None:
    """Train as the config says. Raises BadInputError on every rank alike, after rank 0 has reported it."""
    torch.set_num_threads(config.world.threads_per_rank)
    collective = join(config.world.backend)
    sender = Sender(target=config.report, job=config.job)
    try:
        _prove_world(config, collective=collective, sender=sender)
        _train(config, collective=collective, sender=sender)
    except BadInputError as failure:
        if collective.rank == 0:
            report_failure(sender, failure.report())
            write_termination_message(str(failure))
        collective.gather(None)  # all ranks end when one ends: let rank 0 speak first
        raise
    except (OSError, SafetensorError) as error:
        if full := no_space_left(error, output_uri=config.output_uri):  # rank 0 alone writes
            report_failure(sender, full)
        raise


def together(collective: Collective, action: Callable[[], T]) -> T:
    """Run the action on every rank; when it fails on one, every rank raises the first failure."""
    value: T | None = None
    failure: BadInputError | None = None
    try:
        value = action()
    except BadInputError as error:
        failure = error
    failures = collective.gather((failure.reason, failure.message, failure.field) if failure else None)
    for reason, message, field in (f for f in failures if f):
        raise BadInputError(reason, message, field=field)
    return value  # type: ignore[return-value]


def _prove_world(config: TrainingConfig, *, collective: World, sender: Sender) -> None:
    report = attest(collective)
    if collective.rank == 0:
        logger.info("world: %d ranks on %s over %s", report.size, ", ".join(report.hosts), report.transport)
        sender.post(report)
        sender.flush()
    together(collective, lambda: check_world(report, spec=config.world))


def _train(config: TrainingConfig, *, collective: World, sender: Sender) -> None:
    task = together(collective, lambda: task_of(config))
    plan = StepPlan.of(config.training, rows=len(task.lengths))
    if collective.rank == 0 and computed_in(config.training.precision) is not config.training.precision:
        logger.warning("this CPU only emulates %s: computing in Float32", config.training.precision)
    accumulation = together(collective, lambda: plan.accumulation(world_size=collective.size))
    torch.manual_seed(config.training.seed)
    model = together(collective, task.pretrained)
    optimizer = collective.wrap(
        make_optimizer(model, head=task.head(model), training=config.training),
        model=model,
        accumulation=accumulation,
    )
    tensors = training_tensors(model, optimizer)
    finished = _resume(config, task=task, plan=plan, model=model, tensors=tensors, collective=collective)
    # Dropout differs by rank and doesn't repeat after a resume; all else is the same.
    torch.manual_seed(config.training.seed + 1_000_003 * finished + collective.rank)
    progress = Progress(plan=plan, first_step=finished)
    for step in steps(
        model=model,
        task=task,
        optimizer=optimizer,
        plan=plan,
        training=config.training,
        collective=collective,
        finished_steps=finished,
    ):
        began = time.perf_counter()
        if collective.rank == 0:
            if step.number % config.checkpoint.every_steps == 0:
                _save_checkpoint(config, tensors, step=step.number, sender=sender)
            if report := progress.after(step, post_seconds=time.perf_counter() - began):
                log_progress(report)
                sender.post(report)
    if collective.rank == 0:
        _save_model(config, task=task, model=model, plan=plan, final_loss=progress.last_loss, sender=sender)
    collective.gather(None)  # the others stay until the model is saved and reported


def _resume(
    config: TrainingConfig,
    *,
    task: Task,
    plan: StepPlan,
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    collective: Collective,
) -> int:
    """Steps that are finished already: rank 0 takes them from the newest checkpoint, everyone else from rank 0."""
    finished = 0
    if collective.rank == 0:
        remove_leftovers(checkpoint_folder(config))
        saved = checkpoint.newest(checkpoint_folder(config))
        if saved is not None:
            with torch.no_grad():
                checkpoint.restore(saved, tensors)
            finished = saved.step
            logger.info("resuming after step %d from %s", finished, saved.path)
        else:
            with autocast(config.training.precision), torch.no_grad():
                task.prepare(model, plan.seen_rows())
    collective.broadcast(tensors)
    return collective.broadcast_object(finished)


def checkpoint_folder(config: TrainingConfig) -> Path:
    return Path(config.output_path) / "checkpoints" / config.job.uid


def _save_checkpoint(config: TrainingConfig, tensors: Mapping[str, Tensor], *, step: int, sender: Sender) -> None:
    saved = checkpoint.save(tensors, step=step, folder=checkpoint_folder(config), keep=config.checkpoint.keep)
    sender.post(
        CheckpointReport(
            step=step,
            uri=f"{config.output_uri}/checkpoints/{config.job.uid}/{saved.path.name}",
            digest=saved.digest,
            saved_at=datetime.now(UTC),
        )
    )


def log_progress(report: ProgressReport) -> None:
    logger.info(
        "step %d of %d: loss %.4f, %.1f samples/s, pre %.0f ms, compute %.0f ms, post %.0f ms",
        report.step,
        report.total_steps,
        report.loss,
        report.samples_per_second,
        report.pre_seconds * 1000,
        report.compute_seconds * 1000,
        report.post_seconds * 1000,
    )


def _save_model(
    config: TrainingConfig, *, task: Task, model: nn.Module, plan: StepPlan, final_loss: float, sender: Sender
) -> None:
    """Write the model under its digest; one that is there already stays as it is."""
    output = Path(config.output_path)
    with scratch_folder(output) as scratch:
        write_weights(task.weights(model), scratch / WEIGHTS_FILE)
        task.write_companions(model, scratch)
        digest = digest_of(scratch / WEIGHTS_FILE)
        target = folder_of_digest(output, digest)
        if target.exists() and digest_of(target / WEIGHTS_FILE) != digest:
            logger.warning("%s doesn't hold what its name says: written anew", target)
            shutil.rmtree(target)
        if not target.exists():
            publish(scratch, target)
    logger.info("model saved as %s", target)
    report = TrainedReport(
        uri=f"{config.output_uri}/{target.name}",
        digest=digest,
        steps=plan.total_steps,
        final_loss=final_loss,
        train_rows=len(plan.seen_rows()),
        labels=len(task.labels),
        from_random_weights=task.starts_from_random_weights,
        precision=computed_in(config.training.precision),
    )
    sender.post(report)
    sender.flush()


def end_all_ranks() -> None:
    """End this process at once, so that the others are ended: they may wait for it in a collective."""
    logging.shutdown()
    os._exit(1)
