"""Causal language modelling and dialogue: next-token cross entropy on texts and on what the assistant says in chats."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cycle_server.token_rows import RowEncoder, TokenRow
from cycle_trainer.baselines.tokens import token_baselines
from cycle_trainer.data import EVALUATION_FIELD, TRAIN_FIELD, Chat, read_texts_and_chats
from cycle_trainer.failures import BadInputError, uri_of
from cycle_trainer.families import causal
from cycle_trainer.families.units import Linear
from cycle_trainer.optimizer import distinct_tensors
from cycle_trainer.tasks.base import Batch
from cycle_trainer.tasks.files import (
    MODEL_FIELD,
    check_model_folder,
    checked_config,
    copy_companions,
    has_weights,
    loaded_or_random,
)
from cycle_wire.reports import Baseline
from cycle_wire.training import TrainingConfig
from cycle_wire.variant import LayerShape

NOT_LEARNED = -100  # what cross_entropy leaves out
ENCODED_AT_ONCE = 4096


class LanguageModeling:
    """See :class:`cycle_trainer.tasks.base.Task`."""

    labels: Sequence[str] = ()

    def __init__(self, config: TrainingConfig) -> None:
        self._folder = Path(config.model_path)
        self._maximum_tokens = config.training.maximum_sequence_length
        self._evaluation_spec = config.evaluation
        check_model_folder(self._folder, needed=("config.json", "tokenizer.json"))
        self.starts_from_random_weights = not has_weights(self._folder)
        self._model_config = checked_config(self._folder, causal.read_config, maximum_tokens=self._maximum_tokens)
        self._encoder = self._row_encoder()
        self.training = self._read(config, Path(config.train_path), spec_field=TRAIN_FIELD)
        self.evaluation = self._read(
            config,
            Path(config.evaluation_path),
            spec_field=EVALUATION_FIELD,
            maximum_rows=config.evaluation.maximum_rows,
        )
        self.lengths = [len(row.ids) for row in self.training]

    def pretrained(self) -> PreTrainedModel:
        """Raises BadInputError when the model can't be made, or when there are weights that can't be loaded."""
        return loaded_or_random(
            self._folder,
            load=lambda: causal.load(self._folder),
            draw=lambda: causal.random_model(self._model_config),
            random=self.starts_from_random_weights,
        )

    def prepare(self, model: nn.Module, rows: Sequence[int]) -> None:
        """Nothing is new in a model that starts from what it was trained for."""

    def head(self, model: nn.Module) -> Iterable[nn.Parameter]:  # noqa: ARG002
        return ()

    def freeze(self, model: nn.Module) -> None:
        """Everything learns."""

    def batch(self, rows: Sequence[int]) -> Batch:
        return padded([self.training[row] for row in rows])

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        logits = model(**batch.inputs, use_cache=False).logits
        return nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), batch.targets[:, 1:].flatten(), ignore_index=NOT_LEARNED
        )

    def load(self, folder: Path) -> PreTrainedModel:
        return causal.load(folder)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        return distinct_tensors(model)

    def write_companions(self, model: nn.Module, folder: Path) -> None:
        assert isinstance(model, PreTrainedModel)
        copy_companions(self._folder, folder)
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
        if (
            not (folder / "generation_config.json").exists()
            and (end := self._encoder.tokenizer.eos_token_id) is not None
        ):
            model.generation_config.eos_token_id = end
            model.generation_config.save_pretrained(folder)

    def baselines(self, rows: Sequence[int]) -> list[Baseline]:
        return token_baselines(
            [self.training[row] for row in rows],
            self.evaluation,
            vocabulary=self._model_config.vocab_size,
            evaluation_spec=self._evaluation_spec,
        )

    def linears(self, model: nn.Module) -> Iterator[tuple[str, Linear]]:
        assert isinstance(model, PreTrainedModel)
        return causal.linears(model)

    def prune(self, model: nn.Module, *, sparsity: float) -> None:
        assert isinstance(model, PreTrainedModel)
        causal.prune(model, sparsity=sparsity)

    def shapes(self, model: nn.Module) -> list[LayerShape]:
        assert isinstance(model, PreTrainedModel)
        return causal.shapes(model)

    def _row_encoder(self) -> RowEncoder:
        try:
            encoder = RowEncoder(self._folder)
        except Exception as error:  # noqa: BLE001  the library raises bare Exception
            message = f"{uri_of(self._folder)}/tokenizer.json can't be read: {error}"
            raise BadInputError("ModelUnreadable", message, field=MODEL_FIELD) from None
        tokens, vocabulary = len(encoder.tokenizer), self._model_config.vocab_size
        if tokens > vocabulary:
            message = (
                f"{uri_of(self._folder)}: the tokenizer has {tokens} tokens, the model's vocab_size is {vocabulary}"
            )
            raise BadInputError("ModelUnsupported", message, field=MODEL_FIELD)
        return encoder

    def _read(
        self, config: TrainingConfig, path: Path, *, spec_field: str, maximum_rows: int | None = None
    ) -> list[TokenRow]:
        """Every text and chat as sequences that the model can take. Raises BadInputError."""
        rows: list[TokenRow] = []
        items = read_texts_and_chats(path, fields=config.fields, spec_field=spec_field, maximum_rows=maximum_rows)
        while chunk := list(islice(items, ENCODED_AT_ONCE)):
            texts = iter(self._encoder.texts([item for item in chunk if isinstance(item, str)]))
            for item in chunk:
                row = next(texts) if isinstance(item, str) else self._chat(item, path=path)
                rows += row.pieces(self._maximum_tokens)
        if not rows:
            message = f"{uri_of(path)} has nothing to learn: every text has less than two tokens"
            raise BadInputError("BadData", message, field=spec_field)
        return rows

    def _chat(self, chat: Chat, *, path: Path) -> TokenRow:
        if not self._encoder.has_chat_template:
            message = f"{uri_of(path)} has chats, but the tokenizer of {uri_of(self._folder)} has no chat template"
            raise BadInputError("ModelUnsupported", message, field=MODEL_FIELD)
        try:
            row = self._encoder.chat(chat.messages)
        except Exception as error:  # noqa: BLE001  a template is somebody's program
            message = f"{chat.where}: the chat template of {uri_of(self._folder)} refuses it: {error}"
            raise BadInputError("BadData", message, field="spec.data.fields.messages") from None
        return row


def padded(rows: Sequence[TokenRow]) -> Batch:
    """Token ids (rows, longest) padded at the right, and the same as targets where they are to be learned.

    No attention mask: tokens see only what is before them, so none sees the padding, and nothing is learned there.
    """
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    targets = torch.full((len(rows), width), NOT_LEARNED, dtype=torch.long)
    for place, row in enumerate(rows):
        tokens = torch.tensor(row.ids)
        ids[place, : len(tokens)] = tokens
        targets[place, : len(tokens)] = torch.where(torch.tensor(row.learned), tokens, NOT_LEARNED)
    return Batch(inputs={"input_ids": ids}, targets=targets)
