"""Makes the good requests good in what a JSON schema can't say. The bad ones stay as they are made."""

import itertools
import math
import random
from typing import Any

import schemathesis
from schemathesis import Case, GenerationMode, HookContext

from tests.images.server.image_variants import SHAPE

DEADLINE = "X-Cycle-Deadline-Ms"
# The model reads 160 tokens, and what a character takes is the tokenizer's; a text that is too long is a clear 400.
LONGEST = 16
GENERATED = {"generated_text", "finish_reason"}
BRIGHTEST = {"UINT8": 255, "FP32": 1}


@schemathesis.hook
def before_call(_context: HookContext, case: Case, _kwargs: dict[str, Any]) -> None:
    if case.headers and _is_deadline(case.headers.get(DEADLINE)):
        del case.headers[DEADLINE]  # else nearly everything is answered with 503: it can't be in time
    if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
        _make_consistent(case.body)


def _is_deadline(value: str | None) -> bool:
    try:
        return value is not None and 0 <= float(value) < math.inf
    except ValueError:
        return False


def _make_consistent(body: dict[str, Any]) -> None:
    _make_images(body)
    for tensor in body.get("inputs", []):
        if tensor["name"] == "text":
            tensor["shape"] = [len(tensor["data"])]
            if body.get("outputs") is None or GENERATED.issuperset(output["name"] for output in body["outputs"]):
                tensor["data"] = [text[:LONGEST] for text in tensor["data"]]
    if isinstance(body.get("prompt"), str):
        body["prompt"] = body["prompt"][:LONGEST]
    elif "prompt" in body:
        body["prompt"] = [text[:LONGEST] for text in body["prompt"]]
    if "messages" in body:
        body["messages"] = [{"role": "user", "content": "hello"}, *_short(body["messages"])]
    if body.get("max_tokens") and body.get("max_completion_tokens"):
        body["max_completion_tokens"] = body["max_tokens"]
    if "outputs" in body:
        body["outputs"] = list({output["name"]: output for output in body["outputs"]}.values())


def _make_images(body: dict[str, Any]) -> None:
    if "image" in body:
        body["image"] = _image(body["image"])
    if "images" in body:
        body["images"] = [_image(image) for image in body["images"]]
    for tensor in body.get("inputs", []):
        if tensor["name"] == "image":
            _fit(tensor)


def _fit(tensor: dict[str, Any]) -> None:
    """One image of the model's size, with the numbers that there are."""
    tensor["shape"] = [1, *SHAPE]
    most = BRIGHTEST[tensor["datatype"]]
    within = [min(abs(number), most) if math.isfinite(number) else most for number in tensor["data"]]
    whole = [int(number) for number in within] if most > 1 else within
    tensor["data"] = list(itertools.islice(itertools.cycle(whole), math.prod(SHAPE)))


def _image(made: object) -> list[list[list[int]]]:
    """Some image of the model's size for what was made."""
    channels, height, width = SHAPE
    numbers = random.Random(repr(made))
    return [[[numbers.randrange(256) for _ in range(width)] for _ in range(height)] for _ in range(channels)]


def _short(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first one, with a content that the model has room for."""
    first = messages[0]
    content = first["content"] if isinstance(first["content"], str) else first["content"][0]["text"]
    return [{**first, "content": content[:LONGEST]}]
