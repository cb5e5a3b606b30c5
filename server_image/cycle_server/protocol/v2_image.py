"""Open Inference Protocol v2 for image classification: the same messages as for texts, with another input.

One input, ``image`` [n, channels, height, width]: UINT8 as the pixels are, or FP32 from 0 to 1, which is rounded to 8
bits. Server and sidecar share this file: no numpy here.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import to_json

from cycle_server.protocol import v2
from cycle_server.protocol.errors import ProtocolError

INPUT_NAME = "image"
FLOAT_BYTES = 4
LARGEST_EXAMPLE = 1024  # numbers of an image


def _flat(value: object) -> object:
    """The protocol takes nested lists too. Raises ValueError for a list of lists and numbers."""
    while isinstance(value, list) and any(isinstance(part, list) for part in value):
        if not all(isinstance(part, list) for part in value):
            raise ValueError("mixes lists and numbers")
        value = [number for part in value for number in part]
    return value


class ImageInput(v2.Part):
    name: Literal["image"]
    shape: list[v2.Integer] = Field(min_length=4, max_length=4, description="[n, channels, height, width]")
    datatype: Literal["UINT8", "FP32"]
    data: Annotated[list[float], BeforeValidator(_flat)] = Field(
        min_length=1, fail_fast=True, description="Row by row; UINT8 from 0 to 255, FP32 from 0 to 1."
    )
    parameters: dict[str, Any] = Field(default_factory=dict)


class ImageInferRequest(v2.InferRequest):
    DATATYPES: ClassVar[tuple[str, ...]] = ("UINT8", "FP32")

    inputs: list[ImageInput] = Field(min_length=1, max_length=1)  # type: ignore[assignment]  # another input

    @classmethod
    def data_of(cls, raw: bytes, *, datatype: str, field: str) -> list[Any]:
        if datatype == "UINT8":
            return list(raw)
        if len(raw) % FLOAT_BYTES:
            raise ProtocolError(f"has {len(raw)} bytes, {FLOAT_BYTES} are a number", field=field)
        return list(struct.unpack(f"<{len(raw) // FLOAT_BYTES}f", raw))

    def check_shape(self) -> None:
        """Raises ProtocolError unless it is the data's."""
        shape, numbers = self.inputs[0].shape, len(self.inputs[0].data)
        if min(shape) < 1 or math.prod(shape) != numbers:
            raise ProtocolError(f"is {shape}, data has {numbers} numbers", field="inputs[0].shape")
        if shape[0] > v2.MAXIMUM_TEXTS:
            raise ProtocolError(f"has {shape[0]} images, at most {v2.MAXIMUM_TEXTS} are taken", field="inputs[0].shape")


def infer_request(image: Sequence[Any], *, shape: Sequence[int]) -> bytes:
    """The body of a request for one image, whose pixels are given row by row. ``shape`` (channels, height, width)."""
    tensor = {"name": INPUT_NAME, "shape": [1, *shape], "datatype": "UINT8", "data": list(image)}
    return to_json({"inputs": [tensor]})


def input_tensor(shape: Sequence[int]) -> Mapping[str, Any]:
    """For the model's metadata."""
    return {"name": INPUT_NAME, "datatype": "UINT8", "shape": [-1, *shape]}


def black(shape: Sequence[int]) -> list[Any]:
    """An image for examples; none when it is too large to be looked at, or not known yet."""
    channels, height, width = shape
    if channels < 0 or channels * height * width > LARGEST_EXAMPLE:
        return []
    return [[[0] * width for _ in range(height)] for _ in range(channels)]
