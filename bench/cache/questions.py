"""Questions for the fuzz of the cache: the same few, written in ever other ways, and things that are no questions."""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cycle_server.protocol import v2

DISTINCT = 400
TENANTS = ("", "a", "b", "a b", "ab")
PATHS = ("/v2/models/m/infer", "/v2/models/m/versions/1/infer", "/v2/models/m/versions/2/infer", "/v2/models/n/infer")
CONTROLS = ({"Cache-Control": "no-store"}, {"Cache-Control": "no-cache"}, {"X-Cycle-Cache": "bypass"})
# Texts that look alike, or that some reader takes for another.
TEXTS = (
    "é", "e\u0301", "É", "ß", "ss", "ﬁ", "fi", "\u200b", "", " ", "  ", "\t", "\n", "a", "A", "a ", " a", "a\u0000",
    "\u0000", "שלום", "مرحبا", "😀", "👩‍👩‍👧", "Ω", "Ω", '"', "\\", "\\u0061",
    "/", "1", "1.0", "true", "null", "{}", "[]", "𝒳",
    "\uffff", "\u2028", "\x7f", "a\u0308", "ä", "İ", "i̇", "K", "K",
)  # fmt: skip
OUTPUTS = (
    None, None, None, ["label", "probability"], ["probability", "label"], ["label"], ["probability"],
    ["probabilities", "label"],
)  # fmt: skip
PARAMETERS: tuple[dict[str, Any] | None, ...] = (
    None, None, None, None, {}, {"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": True}, {"a": None}, {"a": [1]}, {"a": -0.0},
    {"a": 0.0}, {"a": 12345678901234567890123}, {"a": 1e308}, {"a": 0.1}, {"a": 0.10000000000000002},
    {"b": {"a": 1, "é": 2}},
)  # fmt: skip


@dataclass(frozen=True)
class Ask:
    path: str
    tenant: str
    headers: Mapping[str, str]
    body: bytes


class Questions:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._known = [self._question() for _ in range(DISTINCT)]

    def stream(self, count: int) -> Iterator[Ask]:
        for _ in range(count):
            yield self._ask()

    def _ask(self) -> Ask:
        chance = self._chance
        path = PATHS[min(int(chance.expovariate(1.2)), len(PATHS) - 1)]
        tenant = TENANTS[min(int(chance.expovariate(0.9)), len(TENANTS) - 1)]
        control = chance.choice(CONTROLS) if chance.random() < 0.05 else {}
        return Ask(path, tenant, control, self._body())

    def _body(self) -> bytes:
        chance = self._chance
        kind = chance.random()
        if kind < 0.03:
            return chance.randbytes(chance.randrange(1, 200))
        if kind < 0.033:
            return self._written(self._long())
        # As popular as questions are: the nth is asked 1/n as often as the first.
        question = self._known[min(int(DISTINCT ** chance.random()) - 1, DISTINCT - 1)]
        body = self._written(question)
        if kind < 0.08:
            return self._broken(body)
        return body

    def _question(self) -> dict[str, Any]:
        chance = self._chance
        count = 1 if chance.random() < 0.8 else chance.randrange(2, 5)
        texts = ["".join(chance.choices(TEXTS, k=chance.choice((1, 1, 1, 2, 3, 30)))) for _ in range(count)]
        tensor: dict[str, Any] = {"name": "text", "shape": [count], "datatype": "BYTES", "data": texts}
        request: dict[str, Any] = {"inputs": [tensor]}
        outputs = chance.choice(OUTPUTS)
        if outputs is not None:
            request["outputs"] = [{"name": name} for name in outputs]
        for part in (tensor, request):
            parameters = chance.choice(PARAMETERS)
            if parameters is not None:
                part["parameters"] = parameters
        return request

    def _long(self) -> dict[str, Any]:
        """Around the longest body that is allowed."""
        length = v2.MAXIMUM_BODY_BYTES - self._chance.randrange(-200, 400_000)
        return {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x" * length]}]}

    def _written(self, question: dict[str, Any]) -> bytes:
        """The question with an id, spaces, escapes, defaults and in an order of its own."""
        chance = self._chance
        request = dict(question)
        if chance.random() < 0.3:
            request["id"] = chance.choice(("1", "2", "é", '"', str(chance.random())))
        if "parameters" not in request and chance.random() < 0.1:
            request["parameters"] = {}
        if "outputs" not in request and chance.random() < 0.2:
            request["outputs"] = [{"name": name} for name in v2.DEFAULT_OUTPUTS]
        separators = chance.choice(((",", ":"), (", ", ": "), (" ,\n", "\t:  ")))
        plain = chance.random() < 0.5
        return json.dumps(self._shuffled(request), separators=separators, ensure_ascii=plain).encode()

    def _shuffled(self, value: Any) -> Any:
        if isinstance(value, dict):
            items = [(key, self._shuffled(item)) for key, item in value.items()]
            self._chance.shuffle(items)
            return dict(items)
        return [self._shuffled(item) for item in value] if isinstance(value, list) else value

    def _broken(self, body: bytes) -> bytes:
        """A byte changed, cut off or doubled; a field twice."""
        chance, place = self._chance, self._chance.randrange(len(body))
        return chance.choice((
            body[:place] + chance.randbytes(1) + body[place + 1 :],
            body[: place + 1],
            body[:place] + body[place : place + 9] + body[place:],
            body[:-1] + b',"parameters":{"a":2}}',
            body + b" ",
            b" " + body,
            body + b"{}",
        ))  # fmt: skip
