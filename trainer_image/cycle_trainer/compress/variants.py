"""Makes one variant: prune, recover, quantize, write, say how in its manifest."""

import logging
import shutil
import time
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from cycle_server.engine.model import (
    LABELS_FILE,
    WEIGHTS_FILE,
    EncoderClassifier,
    layer_shapes,
    load,
    write_weights,
)
from cycle_trainer.collective import Alone
from cycle_trainer.compress.pruning import Masks, prunable_linears, prune_structured
from cycle_trainer.compress.quantization import quantize
from cycle_trainer.files import digest_of, publish, scratch_folder
from cycle_trainer.loop import steps
from cycle_trainer.optimizer import make_optimizer
from cycle_trainer.plan import StepPlan
from cycle_trainer.tasks.text_classification import TextClassification, copy_companions, freeze_word_embeddings
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

    def __init__(self, *, config: TrainingConfig, task: TextClassification, source: Path) -> None:
        self._config = config
        self._task = task
        self._source = source
        self.model_digest = digest_of(source / WEIGHTS_FILE)
        self._original = load(source, classes=len(task.labels))
        self._original_layers = layer_shapes(self._original)
        self._original_weights = sum(linear.weight.numel() for _, linear in prunable_linears(self._original))

    def make(self, variant: Variant, *, folder: Path) -> VariantManifest:
        """Write the variant's folder, all at once, over whatever was there."""
        began = time.monotonic()
        model = load(self._source, classes=len(self._task.labels))
        if variant.pruning is not None:
            self._prune(model, variant.pruning)
        layers = layer_shapes(model)
        changed = layers if layers != self._original_layers else []
        nonzero = sum(int(linear.weight.count_nonzero()) for _, linear in prunable_linears(model))
        with scratch_folder(folder.parent) as scratch:
            quantized = write_variant(model, variant=variant, path=scratch / WEIGHTS_FILE)
            copy_companions(self._source, scratch)
            shutil.copyfile(self._source / LABELS_FILE, scratch / LABELS_FILE)
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

    def _prune(self, model: EncoderClassifier, pruning: Pruning) -> None:
        sparsity = float(pruning.sparsity)
        masks: Masks | None = None
        if pruning.structure is Structure.STRUCTURED:
            prune_structured(model, sparsity=sparsity)
        else:
            masks = Masks(model, sparsity=sparsity)
        if pruning.recovery_steps:
            self._recover(model, recovery_steps=pruning.recovery_steps, masks=masks)
        model.eval()

    def _recover(self, model: EncoderClassifier, *, recovery_steps: int, masks: Masks | None) -> None:
        """Fine-tune what is left, in this process, in an order of its own. The head is no longer new."""
        training = self._config.training.model_copy(
            update={"maximum_steps": recovery_steps, "epochs": None, "seed": self._config.training.seed + 1}
        )
        torch.manual_seed(training.seed)
        freeze_word_embeddings(model)
        for step in steps(
            model=model,
            task=self._task,
            optimizer=make_optimizer(model, head=(), training=training),
            plan=StepPlan.of(training, rows=len(self._task.training)),
            training=training,
            collective=Alone(),
        ):
            if masks is not None:
                masks.apply()
            if step.number % 20 == 0 or step.number == recovery_steps:
                logger.info("recovery step %d of %d: loss %.4f", step.number, recovery_steps, step.loss)


def write_variant(model: EncoderClassifier, *, variant: Variant, path: Path) -> list[str]:
    """Write the weights in the variant's types; the names of the layers that are now integers."""
    dtype = torch.bfloat16 if variant.precision is Precision.BFLOAT16 else torch.float32
    weights: dict[str, Tensor] = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    quantized: list[str] = []
    if variant.quantization is not None:
        for name, linear in prunable_linears(model):
            weights |= quantize(linear.weight, quantization=variant.quantization).named(name)
            weights[f"{name}.bias"] = linear.bias.detach().float()
            quantized.append(name)
    write_weights(weights, path)
    return quantized
