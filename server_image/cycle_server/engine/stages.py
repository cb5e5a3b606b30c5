"""What comes before and after computing: texts, images or sets to items, the model's outputs to answers.

Without torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from pydantic import ValidationError
from tokenizers import Tokenizer

from cycle_server.errors import BadVariantError
from cycle_server.images import ImageFormat, Images
from cycle_server.items import Item, Items
from cycle_server.ranking import START, Catalogue, tokens
from cycle_wire.parts import Task
from cycle_wire.variant import VariantManifest

Tokens = list[list[int]]
NO_TOKEN = -1


@dataclass(frozen=True)
class Answers:
    """``labels`` (n,), their ``probability`` (n,), and ``probabilities`` float32 (n, classes)."""

    labels: list[str]
    probability: list[float]
    probabilities: np.ndarray


class Stages:
    """Of one variant. May run on any thread. ``maximum_tokens``: the longest len() of an item."""

    def __init__(self, *, manifest: VariantManifest, maximum_tokens: int) -> None:
        self.manifest = manifest
        self.maximum_tokens = maximum_tokens

    def label_indices(self, outputs: np.ndarray) -> list[int]:  # noqa: ARG002
        """The class of each output, where there are classes."""
        return []


class Classifying(Stages):
    """Post of a classifier, whatever it classifies."""

    @property
    def labels(self) -> Sequence[str]:
        """Names of the classes by index."""
        return self.manifest.labels

    def post(self, outputs: np.ndarray) -> Answers:
        """From what the engine computed. Raises ArithmeticError when a logit isn't finite."""
        logits = outputs[:, : len(self.labels)]
        if not np.isfinite(logits).all():
            raise ArithmeticError("the model's output isn't finite")
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        best = probabilities.argmax(axis=1)
        return Answers(
            labels=[self.labels[i] for i in best.tolist()],
            probability=probabilities[np.arange(len(best)), best].tolist(),
            probabilities=probabilities,
        )

    def label_indices(self, outputs: np.ndarray) -> list[int]:
        found: list[int] = outputs[:, : len(self.labels)].argmax(axis=1).tolist()
        return found


class ReadingTexts(Stages):
    """``pre`` is the Rust tokenizer, without the GIL, which cuts texts to ``maximum_tokens``."""

    def __init__(self, tokenizer: Tokenizer, *, manifest: VariantManifest, maximum_tokens: int) -> None:
        super().__init__(manifest=manifest, maximum_tokens=maximum_tokens)
        self.tokenizer = tokenizer

    def pre(self, texts: Sequence[str]) -> Tokens:
        """Token ids of each text, truncated; never empty."""
        if len(texts) == 1:
            return [self.tokenizer.encode(texts[0]).ids or [0]]
        return [encoding.ids or [0] for encoding in self.tokenizer.encode_batch_fast(list(texts))]

    def first_cut(self, texts: Sequence[str], tokens: Items) -> int | None:
        """Index of the first text that ``pre`` made shorter."""
        full = (index for index, ids in enumerate(tokens) if len(ids) >= self.maximum_tokens)
        return next((index for index in full if self.tokenizer.encode(texts[index]).overflowing), None)

    @staticmethod
    def sample(length: int) -> Item:
        """Something to compute that is so long."""
        return [0] * length


class TextStages(ReadingTexts, Classifying):
    """Of a text classifier."""

    def embeddings(self, outputs: np.ndarray) -> np.ndarray:
        """Float32 (n, hidden) of length 1, from what the engine computed. Raises ArithmeticError like ``post``."""
        vectors = outputs[:, len(self.labels) :]
        if not np.isfinite(vectors).all():
            raise ArithmeticError("the model's output isn't finite")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: np.ndarray = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
        return unit


class TranslationStages(ReadingTexts):
    """Of a translator. Its outputs are token ids (n, longest translation), NO_TOKEN behind a translation's end."""

    def post(self, outputs: np.ndarray) -> list[str]:
        """The translation of each text."""
        tokens = outputs.astype(np.int64)
        texts: list[str] = self.tokenizer.decode_batch([row[row != NO_TOKEN].tolist() for row in tokens])
        return texts


class ImageStages(Classifying):
    """An image's ``len()`` is 1: all have the size that the model takes."""

    def __init__(self, image_format: ImageFormat, *, manifest: VariantManifest) -> None:
        super().__init__(manifest=manifest, maximum_tokens=1)
        self.image_format = image_format

    def pre(self, images: Images) -> Items:
        """One by one."""
        return [images[place : place + 1] for place in range(len(images))]

    def sample(self, length: int) -> Item:  # noqa: ARG002  they are all alike
        return self.image_format.blank()


class ItemStages(Classifying):
    """Of a recommender, whose classes are the items of its catalogue. An item of a batch is a set of those, as tokens.

    A set may be longer than ``maximum_tokens``: the model reads its first, and recommends none of it.
    """

    def __init__(self, catalogue: Catalogue, *, manifest: VariantManifest, maximum_tokens: int) -> None:
        super().__init__(manifest=manifest, maximum_tokens=maximum_tokens)
        self.catalogue = catalogue

    @property
    def labels(self) -> Sequence[str]:
        return self.catalogue.items

    def pre(self, sets: Sequence[Sequence[str]]) -> Tokens:
        """Tokens of each set of names; those that aren't in the catalogue are left out."""
        return [tokens(self.catalogue.indices(names)) for names in sets]

    @staticmethod
    def sample(length: int) -> Item:
        """Something to compute that is so long."""
        return [START] * length


AnyStages: TypeAlias = TextStages | ImageStages | ItemStages | TranslationStages


def read_stages(folder: Path, *, maximum_tokens: int) -> AnyStages:
    """For a process that computes nothing itself; ``maximum_tokens`` as the engine said. Raises BadVariantError."""
    manifest = read_manifest(folder)
    if manifest.task is Task.IMAGE_CLASSIFICATION:
        return ImageStages(read_image_format(folder), manifest=manifest)
    if manifest.task is Task.RECOMMENDATION:
        return ItemStages(read_catalogue(folder), manifest=manifest, maximum_tokens=maximum_tokens)
    tokenizer = read_tokenizer(folder, maximum_tokens=maximum_tokens)
    kind = TranslationStages if manifest.task is Task.TRANSLATION else TextStages
    return kind(tokenizer, manifest=manifest, maximum_tokens=maximum_tokens)


def read_image_format(folder: Path) -> ImageFormat:
    """Raises BadVariantError."""
    try:
        return ImageFormat.of(folder)
    except (OSError, ValueError) as error:
        raise BadVariantError(f"{folder}: {error}") from error
    except KeyError as error:
        raise BadVariantError(f"{folder}: config.json lacks {error}") from error


def read_catalogue(folder: Path) -> Catalogue:
    """Raises BadVariantError."""
    try:
        return Catalogue.read(folder)
    except (OSError, ValueError) as error:
        raise BadVariantError(f"{folder}: {error}") from error


def read_manifest(folder: Path) -> VariantManifest:
    """Raises BadVariantError."""
    try:
        return VariantManifest.model_validate_json((folder / "manifest.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise BadVariantError(f"{folder}: {error}") from error


def read_tokenizer(folder: Path, *, maximum_tokens: int) -> Tokenizer:
    """Raises BadVariantError."""
    try:
        tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises Exception itself for a file that isn't one
        raise BadVariantError(f"{folder}: tokenizer.json: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=maximum_tokens)
    return tokenizer
