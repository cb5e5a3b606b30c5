"""After training: what simple baselines reach on the same rows, and the trained model's variants.

Variants go to OUTPUT/sha256-<hex>/variants/<name>/; one that is there already and fits the spec is kept.
"""

import logging
import os
from pathlib import Path

import torch
from safetensors import SafetensorError

from cycle_server.engine.model import WEIGHTS_FILE
from cycle_trainer.compress.variants import VariantMaker, existing
from cycle_trainer.failures import BadInputError, no_space_left, report_failure, uri_of
from cycle_trainer.files import digest_of, folder_of_digest, remove_leftovers
from cycle_trainer.plan import StepPlan
from cycle_trainer.tasks import task_of
from cycle_wire.reports import BaselineReport, VariantReport
from cycle_wire.sender import Sender
from cycle_wire.training import TrainingConfig

logger = logging.getLogger(__name__)


def run(config: TrainingConfig) -> None:
    """Raises BadInputError after reporting it."""
    sender = Sender(target=config.report, job=config.job)
    try:
        _compress(config, sender=sender)
    except BadInputError as failure:
        report_failure(sender, failure.report())
        raise
    except (OSError, SafetensorError) as error:
        if full := no_space_left(error, output_uri=config.output_uri):
            report_failure(sender, full)
        raise
    sender.flush()


def _compress(config: TrainingConfig, *, sender: Sender) -> None:
    # The ranks are gone by now: what they computed on is free.
    threads = min(config.world.threads_per_rank * config.world.size, len(os.sched_getaffinity(0)))
    torch.set_num_threads(threads)
    source = trained_model(config)
    task = task_of(config)
    seen = StepPlan.of(config.training, rows=len(task.lengths)).seen_rows()
    sender.post(BaselineReport(baselines=task.baselines(seen)))
    maker = VariantMaker(config=config, task=task, source=source)
    manifests = []
    remove_leftovers(source / "variants")
    for variant in config.variants:
        folder = source / "variants" / variant.name
        manifest = existing(folder, variant=variant, model_digest=maker.model_digest)
        if manifest is None:
            manifest = maker.make(variant, folder=folder)
        else:
            logger.info("variant %s is there already", variant.name)
        manifests.append(manifest)
    sender.post(VariantReport(manifests=manifests))


def trained_model(config: TrainingConfig) -> Path:
    """The folder of the trained model. Raises BadInputError when it isn't what its digest says."""
    digest = config.model_digest
    if digest is None:
        raise BadInputError("BadConfiguration", "the config of a compression names no modelDigest")
    folder = folder_of_digest(Path(config.output_path), digest)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise BadInputError("ModelNotFound", f"there is no trained model {uri_of(folder)}", field="spec.output.uri")
    if digest_of(weights) != digest:
        message = f"{uri_of(weights)} is not what training wrote: its digest differs from {digest}"
        raise BadInputError("ModelCorrupt", message, field="spec.output.uri")
    return folder
