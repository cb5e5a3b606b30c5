"""Image classification: a vision transformer or a convolutional network under a linear head, cross entropy."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from cycle_server.engine.model import UnsupportedModelError
from cycle_server.images import ImageFormat
from cycle_trainer.baselines.pixels import pixel_baselines
from cycle_trainer.data import (
    EVALUATION_FIELD,
    TRAIN_FIELD,
    LabelledImage,
    check_labels_known,
    labels_of,
    read_labelled_images,
)
from cycle_trainer.failures import BadInputError, uri_of
from cycle_trainer.families import vision
from cycle_trainer.families.units import Linear
from cycle_trainer.tasks.base import Batch
from cycle_trainer.tasks.files import (
    MODEL_FIELD,
    check_model_folder,
    copy_companions,
    has_weights,
    loaded_or_random,
    write_labels,
)
from cycle_wire.metrics import evaluation_of
from cycle_wire.reports import Baseline
from cycle_wire.training import TrainingConfig
from cycle_wire.variant import LayerShape


class ImageClassification:
    """See :class:`cycle_trainer.tasks.base.Task`."""

    def __init__(self, config: TrainingConfig) -> None:
        self._folder = Path(config.model_path)
        self._metrics = evaluation_of(config.task, config.evaluation).metrics
        check_model_folder(self._folder, needed=("config.json",))
        self.starts_from_random_weights = not has_weights(self._folder)
        self._config, self._format = self._checked_config()
        self.training = self._read(config, Path(config.train_path), spec_field=TRAIN_FIELD)
        self.labels = labels_of(self.training, path=Path(config.train_path))
        self.evaluation = self._read(
            config,
            Path(config.evaluation_path),
            spec_field=EVALUATION_FIELD,
            maximum_rows=config.evaluation.maximum_rows,
        )
        check_labels_known(self.labels, evaluation=self.evaluation, path=Path(config.evaluation_path))
        self.lengths = [1] * len(self.training)
        self._index = {label: index for index, label in enumerate(self.labels)}
        self._config.id2label = dict(enumerate(self.labels))
        self._config.label2id = self._index

    def pretrained(self) -> PreTrainedModel:
        """Raises BadInputError when the model can't be made, or when there are weights that can't be loaded."""
        return loaded_or_random(
            self._folder,
            load=lambda: vision.load_pretrained(self._folder, self._config),
            draw=lambda: vision.random_model(self._config),
            random=self.starts_from_random_weights,
        )

    def prepare(self, model: nn.Module, rows: Sequence[int]) -> None:
        """The new head starts from the random weights that it has."""

    def head(self, model: nn.Module) -> Iterable[nn.Parameter]:
        """Where all is new, all learns alike."""
        return () if self.starts_from_random_weights else list(model.classifier.parameters())

    def freeze(self, model: nn.Module) -> None:
        """Everything learns."""

    def batch(self, rows: Sequence[int]) -> Batch:
        return self.encode([self.training[row] for row in rows])

    def encode(self, rows: Sequence[LabelledImage]) -> Batch:
        """Values (rows, channels, height, width)."""
        values = self._format.values(np.concatenate([row.image for row in rows]))
        targets = torch.tensor([self._index[row.label] for row in rows])
        return Batch(inputs={"pixel_values": torch.from_numpy(values)}, targets=targets)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(model(**batch.inputs).logits.float(), batch.targets)

    def load(self, folder: Path) -> PreTrainedModel:
        return vision.load(folder)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = model.state_dict()
        return weights

    def write_companions(self, model: nn.Module, folder: Path) -> None:
        assert isinstance(model, PreTrainedModel)
        copy_companions(self._folder, folder)
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
        write_labels(self.labels, folder)

    def baselines(self, rows: Sequence[int]) -> list[Baseline]:
        return pixel_baselines([self.training[row] for row in rows], self.evaluation, metrics=self._metrics)

    def linears(self, model: nn.Module) -> Iterator[tuple[str, Linear]]:
        assert isinstance(model, PreTrainedModel)
        return vision.linears(model)

    def prune(self, model: nn.Module, *, sparsity: float) -> None:
        assert isinstance(model, PreTrainedModel)
        vision.prune(model, sparsity=sparsity)

    def shapes(self, model: nn.Module) -> list[LayerShape]:
        assert isinstance(model, PreTrainedModel)
        return vision.shapes(model)

    def _checked_config(self) -> tuple[PretrainedConfig, ImageFormat]:
        try:
            return vision.read_config(self._folder), ImageFormat.of(self._folder)
        except UnsupportedModelError as error:
            raise BadInputError("ModelUnsupported", str(error), field=MODEL_FIELD) from None
        except (OSError, ValueError, KeyError, StrictDataclassError) as error:
            message = f"{uri_of(self._folder)}: the configuration can't be read: {error}"
            raise BadInputError("ModelUnreadable", message, field=MODEL_FIELD) from None

    def _read(
        self, config: TrainingConfig, path: Path, *, spec_field: str, maximum_rows: int | None = None
    ) -> list[LabelledImage]:
        return read_labelled_images(
            path, image_format=self._format, fields=config.fields, spec_field=spec_field, maximum_rows=maximum_rows
        )
