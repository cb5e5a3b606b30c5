"""What measuring a recommender needs: its questions, things to ask, and how much of what was held out it finds."""

from __future__ import annotations  # the engine's type is there for type checkers only

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic_core import to_json

from cycle_server.engine.stages import ItemStages
from cycle_server.errors import BadInputError
from cycle_server.items import Item, Items
from cycle_server.profiler.asking import classified
from cycle_server.profiler.evaluate import batches
from cycle_server.profiler.measured import HTTP_REQUESTS
from cycle_server.profiler.rows import field_of, read_records
from cycle_server.protocol import v2
from cycle_server.ranking import CUTOFF, METRICS, best
from cycle_server.server.reading import items_of
from cycle_wire.parts import Fields
from cycle_wire.profile import MetricValue

if TYPE_CHECKING:
    from cycle_server.engine.recommender import Recommender

Names = Sequence[str]


@dataclass(frozen=True)
class Question:
    given: Names
    wanted: Names


def read_questions(path: Path, *, fields: Fields, maximum_rows: int | None) -> list[Question]:
    """The evaluation rows, as the trainer reads them. Raises BadInputError: DataNotFound or BadData."""
    return [
        Question(
            given=_names(record, name=fields.items, where=where, field="items"),
            wanted=_names(record, name=fields.held_out, where=where, field="heldOut"),
        )
        for where, record in read_records(path, maximum_rows=maximum_rows)
    ]


def _names(record: object, *, name: str, where: str, field: str) -> Names:
    value = field_of(record, name=name, where=where, field=field)
    good = isinstance(value, list) and value and all(isinstance(item, str | int) for item in value)
    if not good:
        message = f"{where}: field {name!r} must be a list of items"
        raise BadInputError(message, reason="BadData", field=f"spec.data.fields.{field}")
    return list(dict.fromkeys(str(item) for item in value))


def evaluate_sets(engine: Recommender, questions: Sequence[Question], *, metrics: Sequence[str]) -> list[MetricValue]:
    """Means over the questions, from the ranking of all items but those that are given (cycle_server.ranking)."""
    items = engine.pre([question.given for question in questions])
    catalogue = engine.catalogue
    values: dict[str, list[float]] = {name: [] for name in metrics}
    for batch in batches(items):
        for place, scores in zip(batch, engine.compute([items[i] for i in batch]), strict=True):
            question = questions[place]
            ranked = best(scores, CUTOFF, without=catalogue.indices(question.given))
            wanted = catalogue.indices(question.wanted)
            for name, each in values.items():
                each.append(METRICS[name](ranked, wanted, total=len(question.wanted)))
    return [MetricValue(name=name, value=float(np.mean(each)), rows=len(each)) for name, each in values.items()]


class AskingSets:
    """See :class:`cycle_server.profiler.asking.Asking`."""

    def __init__(self, stages: ItemStages, sets: Sequence[Names]) -> None:
        self._stages = stages
        self._sets = list(sets)
        self._random = random.Random(0)

    def take(self, length: int, count: int) -> Sequence[Names]:
        """Items of real sets, with the token that begins each so many; of a small catalogue as many as there are."""
        return [self._joined(min(length, self._stages.maximum_tokens) - 1) for _ in range(count)]

    def body(self, thing: Any) -> bytes:
        return v2.infer_request(to_json(thing).decode())

    def read(self, body: bytes) -> tuple[v2.InferRequest, Items]:
        request = v2.parse_infer(body)
        return request, items_of(self._stages, request)

    def answer(self, request: v2.InferRequest, outputs: np.ndarray) -> bytes:
        return classified(self._stages, request, outputs)

    def items(self, things: Sequence[Any]) -> Sequence[Item]:
        return self._stages.pre(things)

    def bodies(self) -> list[bytes]:
        """With too few different sets, some name an item again, which changes nothing but the question's bytes."""
        unique = list(dict.fromkeys(map(self.body, self._sets)))[:HTTP_REQUESTS]
        again = 0
        while len(unique) < HTTP_REQUESTS:
            names = self._sets[again % len(self._sets)]
            unique.append(self.body([*names, *[names[0]] * (1 + again // len(self._sets))]))
            again += 1
        return unique

    def _joined(self, count: int) -> Names:
        """``count`` different items, if there are so many: of one set, then of others."""
        names: dict[str, None] = {}
        for _ in range(count + 1):
            known = self._stages.catalogue.indices(self._random.choice(self._sets))
            names.update((self._stages.catalogue.items[index], None) for index in known)
            if len(names) >= count:
                break
        return list(names)[:count]
