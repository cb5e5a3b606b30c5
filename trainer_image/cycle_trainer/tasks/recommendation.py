"""Recommendation: from what somebody has to what else belongs with it; an encoder over sets of items, cross entropy.

The model reads items as a text classifier reads words, and its classes are the items. Each item of each training set is
once what is to be found from the others. A set has no order: position embeddings are 0 and stay so.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from cycle_server.engine.model import (
    EncoderClassifier,
    UnsupportedModelError,
    layer_shapes,
    load,
    of_config,
    read_config,
)
from cycle_server.ranking import START, Catalogue, tokens
from cycle_trainer.baselines.items import Question, item_baselines
from cycle_trainer.data import EVALUATION_FIELD, TRAIN_FIELD, ItemSet, read_item_sets
from cycle_trainer.failures import BadInputError, uri_of
from cycle_trainer.families import encoder
from cycle_trainer.families.units import Linear
from cycle_trainer.tasks.base import Batch
from cycle_trainer.tasks.files import MODEL_FIELD, check_model_folder, checked_config, has_weights
from cycle_wire.metrics import evaluation_of
from cycle_wire.reports import Baseline
from cycle_wire.training import TrainingConfig
from cycle_wire.variant import LayerShape

logger = logging.getLogger(__name__)

# Of those that an encoder classifier can be; others have tables of types or positions of their own.
FAMILY = "bert"


class Recommendation:
    """See :class:`cycle_trainer.tasks.base.Task`. A row is one item of one set."""

    labels: Sequence[str] = ()
    starts_from_random_weights = True

    def __init__(self, config: TrainingConfig) -> None:
        self._folder = Path(config.model_path)
        self._maximum_tokens = config.training.maximum_sequence_length
        self._metrics = evaluation_of(config.task, config.evaluation).metrics
        check_model_folder(self._folder, needed=("config.json",))
        self._config = self._checked_config()
        sets = read_item_sets(Path(config.train_path), fields=config.fields, spec_field=TRAIN_FIELD, held_out=False)
        self.catalogue = _catalogue(sets, path=Path(config.train_path))
        self._config.vocab_size = len(self.catalogue) + 1
        self._config.pad_token_id = START
        self.training = [self.catalogue.indices(one.items) for one in sets]
        self._rows = [(place, item) for place, one in enumerate(self.training) for item in one]
        self.lengths = [min(len(self.training[place]), self._maximum_tokens) for place, _ in self._rows]
        self.questions = self._read_questions(config)

    def pretrained(self) -> EncoderClassifier:
        """Raises BadInputError when the configuration is no model's."""
        try:
            model = of_config(self._config, classes=len(self.catalogue))
        except (ValueError, RuntimeError, ZeroDivisionError) as error:
            message = f"{uri_of(self._folder)}: config.json is no model's: {error}"
            raise BadInputError("ModelUnreadable", message, field=MODEL_FIELD) from error
        logger.warning("training starts from random weights, drawn from spec.training.seed")
        with torch.no_grad():
            model.encoder.embeddings.position_embeddings.weight.zero_()
        self.freeze(model)
        return model

    def prepare(self, model: nn.Module, rows: Sequence[int]) -> None:
        """All is new."""

    def head(self, model: nn.Module) -> Iterable[nn.Parameter]:  # noqa: ARG002
        """Where all is new, all learns alike."""
        return ()

    def freeze(self, model: nn.Module) -> None:
        """Positions stay 0: a set has no order."""
        assert isinstance(model, EncoderClassifier)
        model.encoder.embeddings.position_embeddings.weight.requires_grad_(False)

    def batch(self, rows: Sequence[int]) -> Batch:
        chosen = [self._rows[row] for row in rows]
        others = [[other for other in self.training[place] if other != item] for place, item in chosen]
        return Batch(inputs=self.encode(others), targets=torch.tensor([item for _, item in chosen]))

    def encode(self, sets: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Tokens and mask, (sets, longest), of sets of items by index."""
        each = [tokens(one)[: self._maximum_tokens] for one in sets]
        ids = torch.zeros(len(each), max(map(len, each)), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, one in enumerate(each):
            ids[place, : len(one)] = torch.tensor(one)
            mask[place, : len(one)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(model(**batch.inputs).float(), batch.targets)

    def load(self, folder: Path) -> EncoderClassifier:
        return load(folder, classes=len(self.catalogue))

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = model.state_dict()
        return weights

    def write_companions(self, model: nn.Module, folder: Path) -> None:  # noqa: ARG002
        self._config.save_pretrained(folder)
        self.catalogue.write(folder)

    def baselines(self, rows: Sequence[int]) -> list[Baseline]:
        seen = sorted({self._rows[row][0] for row in rows})
        return item_baselines(
            [self.training[place] for place in seen],
            self.questions,
            items=len(self.catalogue),
            metrics=self._metrics,
        )

    def linears(self, model: nn.Module) -> Iterator[tuple[str, Linear]]:
        assert isinstance(model, EncoderClassifier)
        return encoder.linears(model)

    def prune(self, model: nn.Module, *, sparsity: float) -> None:
        assert isinstance(model, EncoderClassifier)
        encoder.prune(model, sparsity=sparsity)

    def shapes(self, model: nn.Module) -> list[LayerShape]:
        assert isinstance(model, EncoderClassifier)
        return layer_shapes(model)

    def _checked_config(self) -> PretrainedConfig:
        if has_weights(self._folder):
            message = f"{uri_of(self._folder)} has weights: a recommender starts from its config.json alone, for its"
            raise BadInputError("ModelUnsupported", f"{message} items are the training data's", field=MODEL_FIELD)
        return checked_config(self._folder, _read_config, maximum_tokens=self._maximum_tokens, unit="items")

    def _read_questions(self, config: TrainingConfig) -> list[Question]:
        """Raises BadInputError when no item that is to be found was in the training data."""
        path = Path(config.evaluation_path)
        sets = read_item_sets(
            path,
            fields=config.fields,
            spec_field=EVALUATION_FIELD,
            held_out=True,
            maximum_rows=config.evaluation.maximum_rows,
        )
        questions: list[Question] = [
            (self.catalogue.indices(one.items), self.catalogue.indices(one.held_out), len(one.held_out)) for one in sets
        ]
        known, total = (sum(counts) for counts in zip(*((len(q[1]), q[2]) for q in questions), strict=True))
        if not known:
            message = f"{uri_of(path)}: none of the {total} items to be found is in the training data"
            raise BadInputError("BadData", message, field="spec.data.fields.heldOut")
        if known < total:
            logger.warning(
                "%d of the %d items to be found aren't in the training data: they count as not found",
                total - known,
                total,
            )
        return questions


def _read_config(folder: Path) -> PretrainedConfig:
    """Raises UnsupportedModelError, and OSError or ValueError for a bad config.json."""
    config = read_config(folder)
    if config.model_type != FAMILY:
        message = f"{uri_of(folder)}/config.json: model_type {config.model_type!r} isn't {FAMILY}"
        raise UnsupportedModelError(message)
    return config


def _catalogue(sets: Sequence[ItemSet], *, path: Path) -> Catalogue:
    """Every item of the training data, in the order of the alphabet. Raises BadInputError for less than two."""
    items = sorted({item for one in sets for item in one.items})
    if len(items) < 2:
        message = f"{uri_of(path)} has one item only, {items[0]!r}; two are needed"
        raise BadInputError("BadData", message, field="spec.data.fields.items")
    return Catalogue(items)
