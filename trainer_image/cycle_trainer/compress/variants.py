"""Makes one variant: prune, recover, quantize, write, say how in its manifest."""

import logging
import shutil
import time
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from cycle_server.engine.model import WEIGHTS_FILE, write_weights
from cycle_trainer.collective import Alone
from cycle_trainer.compress.masks import Masks
from cycle_trainer.compress.quantization import quantize
from cycle_trainer.families.units import matrix
from cycle_trainer.files import digest_of, publish, scratch_folder
from cycle_trainer.loop import steps
from cycle_trainer.optimizer import make_optimizer
from cycle_trainer.plan import StepPlan
from cycle_trainer.tasks.base import Task
from cycle_wire.parts import Precision, Pruning, Structure, Variant
from cycle_wire.training import TrainingConfig
from cycle_wire.variant import LayerShape, VariantManifest

logger = logging.getLogger(__name__)

MANIFEST_FILE = "manifest.json"


def existing(folder: Path, *, variant: Variant, model_digest: str) -> VariantManifest | None:
    """The manifest of a variant that is there, whole, and made as this spec says."""
    try:
        manifest = VariantManifest.model_validate_json((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        weights_digest = digest_of(folder / WEIGHTS_FILE)
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        logger.warning("%s is made anew: %s", folder, error)
        return None
    said = (manifest.variant, manifest.model_digest, manifest.weights_digest)
    return manifest if said == (variant, model_digest, weights_digest) else None


class VariantMaker:
    """Makes the variants of the trained model in ``source``."""

    def __init__(self, *, config: TrainingConfig, task: Task, source: Path) -> None:
        self._config = config
        self._task = task
        self._source = source
        self.model_digest = digest_of(source / WEIGHTS_FILE)
        original = task.load(source)
        self._original_layers = task.shapes(original)
        self._original_weights = sum(linear.weight.numel() for _, linear in task.linears(original))

    def make(self, variant: Variant, *, folder: Path) -> VariantManifest:
        """Write the variant's folder, all at once, over whatever was there."""
        began = time.monotonic()
        task = self._task
        model = task.load(self._source)
        if variant.pruning is not None:
            self._prune(model, variant.pruning)
        layers = task.shapes(model)
        changed = layers if layers != self._original_layers else []
        nonzero = sum(int(linear.weight.count_nonzero()) for _, linear in task.linears(model))
        with scratch_folder(folder.parent) as scratch:
            quantized = write_variant(task, model, variant=variant, path=scratch / WEIGHTS_FILE)
            task.write_companions(model, scratch)
            manifest = self._manifest(
                variant,
                weights=scratch / WEIGHTS_FILE,
                parameters=sum(int(parameter.count_nonzero()) for parameter in model.parameters()),
                sparsity=1 - nonzero / self._original_weights,
                layers=changed,
                quantized=quantized,
            )
            (scratch / MANIFEST_FILE).write_text(manifest.to_json() + "\n", encoding="utf-8")
            if folder.exists():
                shutil.rmtree(folder)
            publish(scratch, folder)
        logger.info(
            "variant %s in %.1f s: %d bytes, sparsity %.3f",
            variant.name,
            time.monotonic() - began,
            manifest.size_bytes,
            manifest.sparsity,
        )
        return manifest

    def _manifest(
        self,
        variant: Variant,
        *,
        weights: Path,
        parameters: int,
        sparsity: float,
        layers: list[LayerShape],
        quantized: list[str],
    ) -> VariantManifest:
        return VariantManifest(
            variant=variant,
            task=self._config.task,
            model_digest=self.model_digest,
            weights_digest=digest_of(weights),
            size_bytes=weights.stat().st_size,
            parameters=parameters,
            sparsity=sparsity,
            layers=layers,
            quantized_layers=quantized,
            recovery_steps=variant.pruning.recovery_steps if variant.pruning else 0,
            labels=list(self._task.labels),
            maximum_sequence_length=self._config.training.maximum_sequence_length,
        )

    def _prune(self, model: nn.Module, pruning: Pruning) -> None:
        sparsity = float(pruning.sparsity)
        masks: Masks | None = None
        if pruning.structure is Structure.STRUCTURED:
            self._task.prune(model, sparsity=sparsity)
        else:
            masks = Masks(self._task.linears(model), sparsity=sparsity)
        if pruning.recovery_steps:
            self._recover(model, recovery_steps=pruning.recovery_steps, masks=masks)
        model.eval()

    def _recover(self, model: nn.Module, *, recovery_steps: int, masks: Masks | None) -> None:
        """Fine-tune what is left, in this process, in an order of its own. The head is no longer new."""
        training = self._config.training.model_copy(
            update={"maximum_steps": recovery_steps, "epochs": None, "seed": self._config.training.seed + 1}
        )
        torch.manual_seed(training.seed)
        self._task.freeze(model)
        for step in steps(
            model=model,
            task=self._task,
            optimizer=make_optimizer(model, head=(), training=training),
            plan=StepPlan.of(training, rows=len(self._task.lengths)),
            training=training,
            collective=Alone(),
        ):
            if masks is not None:
                masks.apply()
            if step.number % 20 == 0 or step.number == recovery_steps:
                logger.info("recovery step %d of %d: loss %.4f", step.number, recovery_steps, step.loss)


def write_variant(task: Task, model: nn.Module, *, variant: Variant, path: Path) -> list[str]:
    """Write the weights in the variant's types; the names of the layers that are now integers."""
    dtype = torch.bfloat16 if variant.precision is Precision.BFLOAT16 else torch.float32
    weights: dict[str, Tensor] = {name: tensor.to(dtype) for name, tensor in task.weights(model).items()}
    quantized: list[str] = []
    if variant.quantization is not None:
        for name, linear in task.linears(model):
            weights |= quantize(matrix(linear), quantization=variant.quantization).named(name)
            if linear.bias is not None:
                weights[f"{name}.bias"] = linear.bias.detach().float()
            quantized.append(name)
    write_weights(weights, path)
    return quantized
