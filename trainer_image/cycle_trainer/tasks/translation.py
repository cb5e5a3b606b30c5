"""Machine translation: an encoder-decoder that reads a text and learns to say its translation, cross entropy."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel

from cycle_server.engine.stages import read_tokenizer
from cycle_server.errors import BadVariantError
from cycle_trainer.baselines.sentences import sentence_baselines
from cycle_trainer.data import EVALUATION_FIELD, TRAIN_FIELD, Pair, read_pairs
from cycle_trainer.failures import BadInputError, uri_of
from cycle_trainer.families import encoder_decoder
from cycle_trainer.families.units import Linear
from cycle_trainer.optimizer import distinct_tensors
from cycle_trainer.tasks.base import Batch
from cycle_trainer.tasks.files import (
    MODEL_FIELD,
    TOKENIZER_FILE,
    check_model_folder,
    checked_config,
    copy_companions,
    has_weights,
    loaded_or_random,
)
from cycle_wire.metrics import evaluation_of
from cycle_wire.reports import Baseline
from cycle_wire.training import TrainingConfig
from cycle_wire.variant import LayerShape

NOT_LEARNED = -100  # what cross_entropy leaves out


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Token ids of a text and of its translation, each with the end token, cut to what the model takes."""

    source: list[int]
    target: list[int]


class Translation:
    """See :class:`cycle_trainer.tasks.base.Task`."""

    labels: Sequence[str] = ()

    def __init__(self, config: TrainingConfig) -> None:
        self._folder = Path(config.model_path)
        self._maximum_tokens = config.training.maximum_sequence_length
        self._metrics = evaluation_of(config.task, config.evaluation).metrics
        check_model_folder(self._folder, needed=("config.json", TOKENIZER_FILE))
        self.starts_from_random_weights = not has_weights(self._folder)
        self._config = checked_config(self._folder, encoder_decoder.read_config, maximum_tokens=self._maximum_tokens)
        self._tokenizer = self._checked_tokenizer()
        self._pairs = self._read(config, Path(config.train_path), spec_field=TRAIN_FIELD)
        self.evaluation = self._read(
            config,
            Path(config.evaluation_path),
            spec_field=EVALUATION_FIELD,
            maximum_rows=config.evaluation.maximum_rows,
        )
        self.training = self.encode(self._pairs)
        self.lengths = [len(row.source) + len(row.target) for row in self.training]

    def pretrained(self) -> PreTrainedModel:
        """Raises BadInputError when the model can't be made, or when there are weights that can't be loaded."""
        return loaded_or_random(
            self._folder,
            load=lambda: encoder_decoder.load(self._folder),
            draw=lambda: encoder_decoder.random_model(self._config),
            random=self.starts_from_random_weights,
        )

    def prepare(self, model: nn.Module, rows: Sequence[int]) -> None:
        """Nothing is new in a model that starts from what it was trained for."""

    def head(self, model: nn.Module) -> Iterable[nn.Parameter]:  # noqa: ARG002
        return ()

    def freeze(self, model: nn.Module) -> None:
        """Everything learns, but the positions, which are given."""

    def batch(self, rows: Sequence[int]) -> Batch:
        return self.padded([self.training[row] for row in rows])

    def encode(self, pairs: Sequence[Pair]) -> list[TokenPair]:
        sources = self._tokenizer.encode_batch_fast([pair.text for pair in pairs])
        targets = self._tokenizer.encode_batch_fast([pair.translation for pair in pairs])
        return [TokenPair(source=list(s.ids), target=list(t.ids)) for s, t in zip(sources, targets, strict=True)]

    def padded(self, rows: Sequence[TokenPair]) -> Batch:
        """Source ids and their mask (rows, longest source); what the decoder reads, which is the start token and the
        translation without its end, and as targets the translation (rows, longest target).

        No mask for what the decoder reads: a token sees only what is before it, and nothing is learned of the padding.
        """
        wide, long = max(len(row.source) for row in rows), max(len(row.target) for row in rows)
        ids = torch.full((len(rows), wide), self._config.pad_token_id)
        read = torch.full((len(rows), long), self._config.pad_token_id)
        targets = torch.full((len(rows), long), NOT_LEARNED)
        mask = torch.zeros(len(rows), wide, dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row.source)] = torch.tensor(row.source)
            mask[place, : len(row.source)] = 1
            targets[place, : len(row.target)] = torch.tensor(row.target)
            read[place, : len(row.target)] = torch.tensor([self._config.decoder_start_token_id, *row.target[:-1]])
        return Batch(inputs={"input_ids": ids, "attention_mask": mask, "decoder_input_ids": read}, targets=targets)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        logits = model(**batch.inputs, use_cache=False).logits
        return nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), batch.targets.flatten(), ignore_index=NOT_LEARNED
        )

    def load(self, folder: Path) -> PreTrainedModel:
        return encoder_decoder.load(folder)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        return distinct_tensors(model)

    def write_companions(self, model: nn.Module, folder: Path) -> None:
        assert isinstance(model, PreTrainedModel)
        copy_companions(self._folder, folder)
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)

    def baselines(self, rows: Sequence[int]) -> list[Baseline]:
        return sentence_baselines([self._pairs[row] for row in rows], self.evaluation, metrics=self._metrics)

    def linears(self, model: nn.Module) -> Iterator[tuple[str, Linear]]:
        assert isinstance(model, PreTrainedModel)
        return encoder_decoder.linears(model)

    def prune(self, model: nn.Module, *, sparsity: float) -> None:
        assert isinstance(model, PreTrainedModel)
        encoder_decoder.prune(model, sparsity=sparsity)

    def shapes(self, model: nn.Module) -> list[LayerShape]:
        assert isinstance(model, PreTrainedModel)
        return encoder_decoder.shapes(model)

    def _checked_tokenizer(self) -> Tokenizer:
        try:
            tokenizer = read_tokenizer(self._folder, maximum_tokens=self._maximum_tokens)
        except BadVariantError as error:
            raise BadInputError("ModelUnreadable", str(error), field=MODEL_FIELD) from None
        tokens, vocabulary = tokenizer.get_vocab_size(), self._config.vocab_size
        if tokens > vocabulary:
            message = (
                f"{uri_of(self._folder)}: the tokenizer has {tokens} tokens, the model's vocab_size is {vocabulary}"
            )
            raise BadInputError("ModelUnsupported", message, field=MODEL_FIELD)
        if tokenizer.encode("a").ids[-1:] != [self._config.eos_token_id]:
            message = f"{uri_of(self._folder)}: the tokenizer doesn't end a text with the config's eos_token_id"
            raise BadInputError("ModelUnsupported", message, field=MODEL_FIELD)
        return tokenizer

    def _read(
        self, config: TrainingConfig, path: Path, *, spec_field: str, maximum_rows: int | None = None
    ) -> list[Pair]:
        return read_pairs(path, fields=config.fields, spec_field=spec_field, maximum_rows=maximum_rows)
