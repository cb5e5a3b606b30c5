"""Text classification: a pretrained encoder, mean pooling, a linear head, cross entropy."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor, nn

from cycle_server.engine.model import (
    WEIGHTS_FILE,
    EncoderClassifier,
    UnsupportedModelError,
    layer_shapes,
    load,
    load_pretrained,
)
from cycle_trainer.baselines.words import word_baselines
from cycle_trainer.data import (
    EVALUATION_FIELD,
    TRAIN_FIELD,
    LabelledText,
    check_labels_known,
    labels_of,
    read_labelled_texts,
)
from cycle_trainer.failures import BadInputError, uri_of
from cycle_trainer.families import encoder
from cycle_trainer.families.units import Linear
from cycle_trainer.tasks.base import Batch
from cycle_trainer.tasks.files import (
    MODEL_FIELD,
    TOKENIZER_FILE,
    check_length,
    check_model_folder,
    copy_companions,
    write_labels,
)
from cycle_wire.metrics import evaluation_of
from cycle_wire.reports import Baseline
from cycle_wire.training import TrainingConfig
from cycle_wire.variant import LayerShape

PAD_MULTIPLE = 2
# The head starts as a nearest-class-mean classifier on this many rows, its logits at most about this large.
PREPARATION_ROWS = 1024
PREPARATION_BATCH = 64
PREPARATION_SCALE = 12.0


class TextClassification:
    """See :class:`cycle_trainer.tasks.base.Task`."""

    starts_from_random_weights = False

    def __init__(self, config: TrainingConfig) -> None:
        self._folder = Path(config.model_path)
        self._maximum_tokens = config.training.maximum_sequence_length
        self._metrics = evaluation_of(config.task, config.evaluation).metrics
        self._seed = config.training.seed
        check_model_folder(self._folder, needed=("config.json", WEIGHTS_FILE, TOKENIZER_FILE))
        self.training = read_labelled_texts(Path(config.train_path), fields=config.fields, spec_field=TRAIN_FIELD)
        self.labels = labels_of(self.training, path=Path(config.train_path))
        self.evaluation = read_labelled_texts(
            Path(config.evaluation_path),
            fields=config.fields,
            spec_field=EVALUATION_FIELD,
            maximum_rows=config.evaluation.maximum_rows,
        )
        check_labels_known(self.labels, evaluation=self.evaluation, path=Path(config.evaluation_path))
        self.lengths = [len(row.text) for row in self.training]
        self._index = {label: index for index, label in enumerate(self.labels)}
        self._tokenizer = read_tokenizer(self._folder, maximum_tokens=self._maximum_tokens)

    def pretrained(self) -> EncoderClassifier:
        """Raises BadInputError when the folder doesn't hold an encoder that we know."""
        try:
            model = load_pretrained(self._folder, classes=len(self.labels))
        except UnsupportedModelError as error:
            raise BadInputError("ModelUnsupported", str(error), field=MODEL_FIELD) from None
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            message = f"{uri_of(self._folder)} can't be loaded: {error}"
            raise BadInputError("ModelUnreadable", message, field=MODEL_FIELD) from error
        check_length(self._maximum_tokens, longest=model.config.max_position_embeddings)
        self.freeze(model)
        return model

    def prepare(self, model: nn.Module, rows: Sequence[int]) -> None:
        """Start the head as a nearest-class-mean classifier of the pretrained embeddings.

        A random head first pulls the body's features about; from the class means of some embeddings, centred and of
        unit length, training starts where those already separate the classes (Snell et al. 2017, 2.4).
        """
        assert isinstance(model, EncoderClassifier)
        chosen = sorted(rows[:PREPARATION_ROWS], key=lambda row: self.lengths[row])
        model.eval()
        embeddings, targets = [], []
        for begin in range(0, len(chosen), PREPARATION_BATCH):
            batch = self.batch(chosen[begin : begin + PREPARATION_BATCH])
            embeddings.append(model.embed(**batch.inputs).float())
            targets.append(batch.targets)
        model.train()
        points, classes = torch.cat(embeddings), torch.cat(targets)
        mean = points.mean(dim=0)
        means = torch.zeros(len(self.labels), points.shape[1]).index_add_(0, classes, points - mean)
        counts = torch.bincount(classes, minlength=len(self.labels)).clamp(min=1)
        directions = nn.functional.normalize(means / counts.unsqueeze(1), dim=1)
        weight = directions * (PREPARATION_SCALE / (points - mean).norm(dim=1).mean())
        model.classifier.weight.copy_(weight)
        model.classifier.bias.copy_(-(weight @ mean))

    def head(self, model: nn.Module) -> Iterable[nn.Parameter]:
        assert isinstance(model, EncoderClassifier)
        return list(model.classifier.parameters())

    def batch(self, rows: Sequence[int]) -> Batch:
        return self.encode([self.training[row] for row in rows])

    def encode(self, rows: Sequence[LabelledText]) -> Batch:
        """Token ids padded to the longest row, rounded up."""
        encodings = self._tokenizer.encode_batch_fast([row.text for row in rows])
        longest = max(len(encoding.ids) for encoding in encodings)
        width = min(-(-longest // PAD_MULTIPLE) * PAD_MULTIPLE, self._maximum_tokens)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for place, encoding in enumerate(encodings):
            ids[place, : len(encoding.ids)] = torch.tensor(encoding.ids)
            mask[place, : len(encoding.ids)] = 1
        targets = torch.tensor([self._index[row.label] for row in rows])
        return Batch(inputs={"input_ids": ids, "attention_mask": mask}, targets=targets)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(model(**batch.inputs).float(), batch.targets)

    def load(self, folder: Path) -> EncoderClassifier:
        return load(folder, classes=len(self.labels))

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = model.state_dict()
        return weights

    def write_companions(self, model: nn.Module, folder: Path) -> None:  # noqa: ARG002
        copy_companions(self._folder, folder)
        write_labels(self.labels, folder)

    def baselines(self, rows: Sequence[int]) -> list[Baseline]:
        seen = [self.training[row] for row in rows]
        return word_baselines(seen, self.evaluation, metrics=self._metrics, seed=self._seed)

    def linears(self, model: nn.Module) -> Iterator[tuple[str, Linear]]:
        assert isinstance(model, EncoderClassifier)
        return encoder.linears(model)

    def prune(self, model: nn.Module, *, sparsity: float) -> None:
        assert isinstance(model, EncoderClassifier)
        encoder.prune(model, sparsity=sparsity)

    def shapes(self, model: nn.Module) -> list[LayerShape]:
        assert isinstance(model, EncoderClassifier)
        return layer_shapes(model)

    def freeze(self, model: nn.Module) -> None:
        """Leave the pretrained word embeddings as they are: half of all weights, of which a step sees a few rows only.

        Their gradients would be half of what ranks exchange, and those of rare words would hardly change them.
        """
        assert isinstance(model, EncoderClassifier)
        model.encoder.embeddings.word_embeddings.weight.requires_grad_(False)


def read_tokenizer(folder: Path, *, maximum_tokens: int) -> Tokenizer:
    """The folder's tokenizer, truncating and not padding. Raises BadInputError when the file is no tokenizer."""
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    except Exception as error:  # noqa: BLE001  the library raises bare Exception
        message = f"{uri_of(folder / TOKENIZER_FILE)} can't be read: {error}"
        raise BadInputError("ModelUnreadable", message, field=MODEL_FIELD) from None
    tokenizer.enable_truncation(max_length=maximum_tokens)
    tokenizer.no_padding()
    return tokenizer
