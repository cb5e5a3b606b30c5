"""Images as data files and requests have them, and the values that a model takes. Trainer and server share it.

An image is 8 bits a value, (channels, height, width), and has exactly the size that the model's ``config.json`` says:
nothing is resized. One image by itself is an array (1, channels, height, width), so that its length, which is what
batches are made by, is 1 for every image. No torch here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]  # (images, channels, height, width)
Values = NDArray[np.float32]  # of the same shape

BRIGHTEST = 255
# Where preprocessor_config.json says nothing: transformers' own defaults for vision transformers.
RESCALE_FACTOR, MEAN, DEVIATION = 1 / BRIGHTEST, 0.5, 0.5


@dataclass(frozen=True)
class ImageFormat:
    """``mean`` and ``deviation`` of each channel, of pixels times ``factor``."""

    channels: int
    height: int
    width: int
    factor: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, folder: Path) -> "ImageFormat":
        """As a model's folder says. Raises OSError, ValueError, or KeyError with what config.json lacks."""
        config = json.loads((folder / "config.json").read_bytes())
        channels, size = config["num_channels"], config["image_size"]
        height, width = size if isinstance(size, list) else (size, size)
        path = folder / "preprocessor_config.json"
        said: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
        rescales, normalizes = said.get("do_rescale", True), said.get("do_normalize", True)
        return cls(
            channels=channels,
            height=height,
            width=width,
            factor=float(said.get("rescale_factor", RESCALE_FACTOR)) if rescales else 1.0,
            mean=_of_channels(said.get("image_mean", MEAN) if normalizes else 0.0, channels, name="image_mean"),
            deviation=_of_channels(said.get("image_std", DEVIATION) if normalizes else 1.0, channels, name="image_std"),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    def read(self, content: object) -> Images:
        """One image, from lists of whole numbers: [height][width] when there is one channel, or
        [channels][height][width]. Raises ValueError that says what is wrong.
        """
        try:
            pixels = np.array(content)
        except ValueError:
            raise ValueError("its rows differ in length") from None
        if self.channels == 1 and pixels.ndim == 2:
            pixels = pixels[np.newaxis]
        if pixels.shape != self.shape:
            raise ValueError(f"is {list(pixels.shape)}, the model takes {list(self.shape)} (channels, height, width)")
        if pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > BRIGHTEST:
            raise ValueError(f"must have whole numbers from 0 to {BRIGHTEST} only")
        return pixels.astype(np.uint8)[np.newaxis]

    def of_numbers(self, numbers: Sequence[float], *, count: int, shares: bool) -> Images:
        """``count`` images, from their numbers row by row: whole ones, or ``shares`` of the brightest (rounded).

        Raises ValueError that says what is wrong.
        """
        pixels = np.array(numbers, dtype=np.float64)
        highest = 1 if shares else BRIGHTEST
        whole = shares or (pixels == np.rint(pixels)).all()
        if not whole or not ((pixels >= 0) & (pixels <= highest)).all():
            kind = "numbers" if shares else "whole numbers"
            raise ValueError(f"must have {kind} from 0 to {highest} only")
        scaled = np.rint(pixels * BRIGHTEST) if shares else pixels
        return scaled.astype(np.uint8).reshape(count, *self.shape)

    def values(self, images: Images) -> Values:
        """What the model takes."""
        mean = np.array(self.mean, dtype=np.float32).reshape(-1, 1, 1)
        deviation = np.array(self.deviation, dtype=np.float32).reshape(-1, 1, 1)
        result: Values = (images * np.float32(self.factor) - mean) / deviation
        return result

    def blank(self) -> Images:
        """One black image."""
        return np.zeros((1, *self.shape), dtype=np.uint8)


def _of_channels(said: float | list[float], channels: int, *, name: str) -> tuple[float, ...]:
    """One number stands for every channel. Raises ValueError for any other number of them, and for a deviation of 0."""
    numbers = [float(number) for number in (said if isinstance(said, list) else [said] * channels)]
    if len(numbers) != channels or (name == "image_std" and 0.0 in numbers):
        raise ValueError(f"preprocessor_config.json: {name} {said} doesn't fit {channels} channels")
    return tuple(numbers)
