"""What measuring batches needs of a task: things to ask, and how they are asked and read. One for each task."""

import random
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from cycle_server.engine.stages import Classifying, ImageStages, TextStages, TranslationStages
from cycle_server.images import Images
from cycle_server.items import Item, Items
from cycle_server.profiler.measured import HTTP_REQUESTS, different
from cycle_server.protocol import binary, v2, v2_image, v2_translation
from cycle_server.server.reading import items_of, kind_read_by
from cycle_server.texts import TextSource

PROFILED = "profile"


class Asking(Protocol):
    """``Any`` is a thing to ask: a text, an image."""

    def take(self, length: int, count: int) -> Sequence[Any]:
        """``count`` things of a length, measured as engines do."""

    def body(self, thing: Any) -> bytes:
        """The request to infer it."""

    def read(self, body: bytes) -> tuple[v2.InferRequest, Items]:
        """All of pre: from a request's bytes to items."""

    def answer(self, request: v2.InferRequest, outputs: np.ndarray) -> bytes:
        """All of post: from what the engine computed to the answer's bytes."""

    def items(self, things: Sequence[Any]) -> Sequence[Item]:
        """Without a request."""

    def bodies(self) -> list[bytes]:
        """HTTP_REQUESTS different requests."""


class _ReadingTexts:
    def __init__(self, stages: TextStages | TranslationStages, texts: Sequence[str]) -> None:
        self._stages = stages
        self._texts = texts
        self._source = TextSource(texts, tokenizer=stages.tokenizer, seed=0)

    def take(self, length: int, count: int) -> Sequence[str]:
        """A length beyond the model's is measured at its longest."""
        return [self._source.take(length) for _ in range(count)]

    def body(self, thing: str) -> bytes:
        return v2.infer_request(thing)

    def read(self, body: bytes) -> tuple[v2.InferRequest, Items]:
        request = v2.parse_infer(body, kind_read_by(self._stages))
        return request, items_of(self._stages, request)

    def items(self, things: Sequence[str]) -> Sequence[Item]:
        return self._stages.pre(things) if things else []

    def bodies(self) -> list[bytes]:
        return [v2.infer_request(text) for text in different(self._texts, HTTP_REQUESTS)]


class AskingTexts(_ReadingTexts):
    """Of a classifier."""

    def __init__(self, stages: TextStages, texts: Sequence[str]) -> None:
        super().__init__(stages, texts)
        self._classes = stages

    def answer(self, request: v2.InferRequest, outputs: np.ndarray) -> bytes:
        return classified(self._classes, request, outputs)


class AskingTranslations(_ReadingTexts):
    def __init__(self, stages: TranslationStages, texts: Sequence[str]) -> None:
        super().__init__(stages, texts)
        self._translator = stages

    def answer(self, request: v2.InferRequest, outputs: np.ndarray) -> bytes:
        tensors = v2_translation.output_tensors(self._translator.post(outputs))
        answer, _ = binary.write(tensors, model_name=PROFILED, model_version=PROFILED, request=request)
        return answer


class AskingImages:
    def __init__(self, stages: ImageStages, images: Images) -> None:
        self._stages = stages
        self._images = images
        self._random = random.Random(0)

    def take(self, length: int, count: int) -> Sequence[Images]:  # noqa: ARG002  all are alike
        places = [self._random.randrange(len(self._images)) for _ in range(count)]
        return [self._images[place : place + 1] for place in places]

    def body(self, thing: Images) -> bytes:
        return v2_image.infer_request(thing.ravel().tolist(), shape=self._stages.image_format.shape)

    def read(self, body: bytes) -> tuple[v2.InferRequest, Items]:
        request = v2.parse_infer(body, v2_image.ImageInferRequest)
        return request, items_of(self._stages, request)

    def answer(self, request: v2.InferRequest, outputs: np.ndarray) -> bytes:
        return classified(self._stages, request, outputs)

    def items(self, things: Sequence[Images]) -> Sequence[Item]:
        return things

    def bodies(self) -> list[bytes]:
        return [self.body(image) for image in different_images(self._images, HTTP_REQUESTS)]


def classified(stages: Classifying, request: v2.InferRequest, outputs: np.ndarray) -> bytes:
    """The answer's bytes: a label and its probability. Raises ArithmeticError when a logit isn't finite."""
    answers = stages.post(outputs)
    return v2.infer_response(
        model_name=PROFILED,
        model_version=PROFILED,
        request=request,
        labels=answers.labels,
        probability=answers.probability,
        probabilities=[],
    )


def different_images(images: Images, count: int) -> list[Images]:
    """``count`` different images, one by one; with too few, some have another value in their first corner."""
    unique = [image[np.newaxis] for image in np.unique(images, axis=0)][:count]
    known = {image.tobytes() for image in unique}
    value = 0
    while len(unique) < count:
        changed = unique[value % len(unique)].copy()
        changed[0, 0, 0, 0] = value % 256
        value += 1
        if changed.tobytes() not in known:
            known.add(changed.tobytes())
            unique.append(changed)
    return unique
