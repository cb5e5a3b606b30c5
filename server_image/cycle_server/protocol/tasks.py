"""`POST /classify`, `/translate` and `/recommend`: the model's task in plain JSON, for people with curl."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import Field, ValidationError
from pydantic_core import from_json

from cycle_server.protocol.errors import ProtocolError, invalid
from cycle_server.protocol.v2 import MAXIMUM_TEXTS, Integer, Part, no_default

MAXIMUM_TOP = 1000


class TextsRequest(Part):
    """Exactly one of ``text`` and ``texts``."""

    model_config = {"json_schema_extra": {"oneOf": [{"required": ["text"]}, {"required": ["texts"]}]}}

    text: str = Field("", json_schema_extra=no_default)
    texts: list[str] = Field(
        default_factory=list, min_length=1, max_length=MAXIMUM_TEXTS, json_schema_extra={"examples": [["a", "b"]]}
    )
    truncate: bool = Field(True, description="Cut texts that are longer than the model reads; false: refuse them.")

    @property
    def all_texts(self) -> list[str]:
        return [self.text] if "text" in self.model_fields_set else self.texts

    @property
    def source(self) -> str:
        """The field that the texts came from."""
        return "text" if "text" in self.model_fields_set else "texts"


class ClassifyRequest(TextsRequest):
    """Exactly one of ``text`` and ``texts``."""

    top: Integer = Field(3, ge=1, le=MAXIMUM_TOP, description="How many labels to give, best first.")


class TranslateRequest(TextsRequest):
    """Exactly one of ``text`` and ``texts``."""


Kind = TypeVar("Kind", bound=Part)


class ClassifyImagesRequest(Part):
    """Exactly one of ``image`` and ``images``. An image is [height][width] of whole numbers from 0 to 255, or
    [channels][height][width].
    """

    model_config = {"json_schema_extra": {"oneOf": [{"required": ["image"]}, {"required": ["images"]}]}}

    image: list[list[Any]] = Field(default_factory=list)
    images: list[list[list[Any]]] = Field(default_factory=list, min_length=1, max_length=MAXIMUM_TEXTS)
    top: Integer = Field(3, ge=1, le=MAXIMUM_TOP, description="How many labels to give, best first.")

    @property
    def named(self) -> list[tuple[str, Any]]:
        """Each image, with the name of its field."""
        if "image" in self.model_fields_set:
            return [("image", self.image)]
        return [(f"images[{place}]", image) for place, image in enumerate(self.images)]


class RecommendRequest(Part):
    """Exactly one of ``items``, what somebody has, and ``sets`` of such."""

    model_config = {"json_schema_extra": {"oneOf": [{"required": ["items"]}, {"required": ["sets"]}]}}

    items: list[str] = Field(
        default_factory=list, description="In any order. What the model doesn't know is left out and named."
    )
    sets: list[list[str]] = Field(default_factory=list, min_length=1, max_length=MAXIMUM_TEXTS)
    top: Integer = Field(10, ge=1, le=MAXIMUM_TOP, description="How many items to give, best first.")

    @property
    def named(self) -> list[tuple[str, list[str]]]:
        """Each set, with the name of its field."""
        if "items" in self.model_fields_set:
            return [("items", self.items)]
        return [(f"sets[{place}]", items) for place, items in enumerate(self.sets)]


class ScoredItem(Part):
    item: str
    probability: float = Field(ge=0, le=1)


class Recommendation(Part):
    """The best items for one set, none of which is in it."""

    items: list[ScoredItem]
    unknown: list[str] = Field(description="Given, but not known to the model.")


class RecommendResponse(Part):
    """``results`` in the order of the sets."""

    model: str
    version: str
    results: list[Recommendation]


class Score(Part):
    label: str
    probability: float = Field(ge=0, le=1)


class Classification(Part):
    """The best label of one text, and the best ``top`` with it."""

    label: str
    probability: float = Field(ge=0, le=1)
    scores: list[Score]


class ClassifyResponse(Part):
    """``results`` in the order of the texts."""

    model: str
    version: str
    results: list[Classification]


class TranslateResponse(Part):
    """``translations`` in the order of the texts."""

    model: str
    version: str
    translations: list[str]


def parse_classify(body: bytes) -> ClassifyRequest:
    """Raises ProtocolError with the field's name."""
    return _parse_one_of(body, ClassifyRequest, one="text", several="texts")


def parse_translate(body: bytes) -> TranslateRequest:
    """Raises ProtocolError with the field's name."""
    return _parse_one_of(body, TranslateRequest, one="text", several="texts")


def parse_classify_images(body: bytes) -> ClassifyImagesRequest:
    """Raises ProtocolError with the field's name."""
    return _parse_one_of(body, ClassifyImagesRequest, one="image", several="images")


def parse_recommend(body: bytes) -> RecommendRequest:
    """Raises ProtocolError with the field's name."""
    return _parse_one_of(body, RecommendRequest, one="items", several="sets")


def _parse_one_of(body: bytes, kind: type[Kind], *, one: str, several: str) -> Kind:
    """A request that must have exactly one of the two fields."""
    try:
        request = kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from error
    given = request.model_fields_set & {one, several}
    if len(given) != 1:
        raise ProtocolError(f"exactly one of {one} and {several} must be given, there are {len(given)}", field=one)
    return request


def items_in(text: str, *, field: str) -> list[str]:
    """A set in Open Inference Protocol, which has no lists of lists: a JSON list of texts. Raises ProtocolError."""
    try:
        items = from_json(text)
    except ValueError:
        items = None
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ProtocolError('must be a JSON list of texts, such as ["a", "b"]', field=field)
    return items


def classify_response(
    *, model: str, version: str, labels: Sequence[str], probabilities: Sequence[Sequence[float]], top: int
) -> bytes:
    """``labels`` of the classes, ``probabilities`` (n, classes)."""
    results = []
    for row in probabilities:
        best = sorted(range(len(row)), key=lambda i: (-row[i], i))[:top]
        scores = [Score(label=labels[i], probability=row[i]) for i in best]
        results.append(Classification(label=scores[0].label, probability=scores[0].probability, scores=scores))
    return ClassifyResponse(model=model, version=version, results=results).model_dump_json().encode()


def translate_response(*, model: str, version: str, translations: Sequence[str]) -> bytes:
    return TranslateResponse(model=model, version=version, translations=list(translations)).model_dump_json().encode()
