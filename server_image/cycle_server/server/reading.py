"""From requests of any protocol to the items that an engine computes from. No torch: the profiler times it too."""

from collections.abc import Sequence

import numpy as np

from cycle_server.engine.stages import (
    AnyStages,
    Classifying,
    ImageStages,
    ItemStages,
    ReadingTexts,
    TextStages,
    TranslationStages,
)
from cycle_server.items import Items
from cycle_server.protocol import tasks, v2
from cycle_server.protocol.errors import ProtocolError
from cycle_server.protocol.v2_image import ImageInferRequest, ImageInput
from cycle_server.protocol.v2_translation import TranslationInferRequest


def items_of(stages: AnyStages, request: v2.InferRequest) -> Items:
    """Raises ProtocolError with the field's name."""
    if isinstance(stages, ReadingTexts):
        return stages.pre(request.texts)
    if isinstance(stages, ItemStages):
        return given_sets(stages, [(field, tasks.items_in(text, field=field)) for field, text in _named(request)])
    assert isinstance(request, ImageInferRequest)
    return stages.pre(_images(stages, request.inputs[0]))


def classified_images(stages: ImageStages, request: tasks.ClassifyImagesRequest) -> Items:
    """Raises ProtocolError with the field's name."""
    images = []
    for field, content in request.named:
        try:
            images.append(stages.image_format.read(content))
        except ValueError as error:
            raise ProtocolError(str(error), field=field) from None
    return stages.pre(np.concatenate(images))


def given_sets(stages: ItemStages, named: Sequence[tuple[str, Sequence[str]]]) -> Items:
    """Each set with the name of its field. Raises ProtocolError for one that leaves nothing to recommend."""
    sets = stages.pre([names for _, names in named])
    for (field, _), found in zip(named, sets, strict=True):
        if len(found) > len(stages.catalogue):  # with the token that begins it
            raise ProtocolError("has every item: nothing is left to recommend", field=field)
    return sets


def kind_read_by(stages: AnyStages) -> type[v2.InferRequest]:
    """What Open Inference Protocol's requests for it are."""
    if isinstance(stages, TranslationStages):
        return TranslationInferRequest
    return ImageInferRequest if isinstance(stages, ImageStages) else v2.InferRequest


def texts_of(stages: AnyStages) -> TextStages:
    """For endpoints that only text classifiers have, which has been checked."""
    assert isinstance(stages, TextStages)
    return stages


def classes_of(stages: AnyStages) -> Classifying:
    """For endpoints that only classifiers have, which has been checked."""
    assert isinstance(stages, Classifying)
    return stages


def translations_of(stages: AnyStages) -> TranslationStages:
    """For endpoints that only translators have, which has been checked."""
    assert isinstance(stages, TranslationStages)
    return stages


def sets_of(stages: AnyStages) -> ItemStages:
    """For the endpoint that only recommenders have, which has been checked."""
    assert isinstance(stages, ItemStages)
    return stages


def _named(request: v2.InferRequest) -> list[tuple[str, str]]:
    return [(f"inputs[0].data[{place}]", text) for place, text in enumerate(request.texts)]


def _images(stages: ImageStages, tensor: ImageInput) -> np.ndarray:
    wanted = list(stages.image_format.shape)
    if tensor.shape[1:] != wanted:
        message = f"has images of {tensor.shape[1:]}, the model takes {wanted} (channels, height, width)"
        raise ProtocolError(message, field="inputs[0].shape")
    try:
        return stages.image_format.of_numbers(tensor.data, count=tensor.shape[0], shares=tensor.datatype == "FP32")
    except ValueError as error:
        raise ProtocolError(str(error), field="inputs[0].data") from None
