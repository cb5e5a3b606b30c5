"""Writes the data and the models' folders of the example that classifies images.

    DATA/digits/train.jsonl        {"image": [[0, 85, ...], ...], "digit": 7}, one image of 8 x 8 pixels a line
    DATA/digits/evaluation.jsonl
    MODELS/digits-vit/             a vision transformer of 0.1 million parameters: a configuration, no weights
    MODELS/digits-convnext/        a convolutional network of as many

The images are the 1,797 scans of handwritten digits that scikit-learn ships, by 13 people (the test part of "Optical
Recognition of Handwritten Digits": E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998). Their 17 shades
are spread over 0 to 255. An image goes to the evaluation file when the first 64 bits of the SHA-256 of its pixels are
divisible by 5; both files are sorted by that hash. The people aren't told apart: all of them are in both files.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from examples.demo_data.prepare import lines_of, write

SHADES = 16  # the brightest
BRIGHTEST = 255
EVALUATION_SHARE = 5  # one in so many
SIZE = 8
VIT: dict[str, Any] = {
    "architectures": ["ViTForImageClassification"],
    "model_type": "vit",
    "image_size": SIZE,
    "num_channels": 1,
    "patch_size": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "hidden_act": "gelu",
    "qkv_bias": True,
    "layer_norm_eps": 1e-6,
}
CONVNEXT: dict[str, Any] = {
    "architectures": ["ConvNextForImageClassification"],
    "model_type": "convnext",
    "image_size": SIZE,
    "num_channels": 1,
    "patch_size": 1,
    "num_stages": 2,
    "hidden_sizes": [32, 64],
    "depths": [2, 2],
    "hidden_act": "gelu",
    "layer_scale_init_value": 0.1,
    "layer_norm_eps": 1e-6,
}
PREPROCESSING: dict[str, Any] = {
    "do_rescale": True,
    "rescale_factor": 1 / BRIGHTEST,
    "do_normalize": True,
    "image_mean": [0.5],
    "image_std": [0.5],
}

Row = dict[str, Any]


def row_of(shades: Iterable[Iterable[float]], digit: int) -> Row:
    """The line of an image whose pixels are from 0 to SHADES."""
    pixels = [[round(shade * BRIGHTEST / SHADES) for shade in line] for line in shades]
    return {"image": pixels, "digit": int(digit)}


def hash_of(row: Row) -> int:
    return int.from_bytes(hashlib.sha256(bytes(pixel for line in row["image"] for pixel in line)).digest()[:8])


def split(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """(training, evaluation)."""
    ordered = sorted(rows, key=hash_of)
    training = [row for row in ordered if hash_of(row) % EVALUATION_SHARE]
    return training, [row for row in ordered if not hash_of(row) % EVALUATION_SHARE]


def write_digits(*, models: Path, data: Path) -> None:
    from sklearn.datasets import load_digits  # only where data is made

    scans = load_digits()
    training, evaluation = split(row_of(image, digit) for image, digit in zip(scans.images, scans.target, strict=True))
    write(data / "digits" / "train.jsonl", lines_of(training))
    write(data / "digits" / "evaluation.jsonl", lines_of(evaluation))
    for name, config in (("digits-vit", VIT), ("digits-convnext", CONVNEXT)):
        write(models / name / "config.json", _json(config))
        write(models / name / "preprocessor_config.json", _json(PREPROCESSING))
    print(f"{len(training)} training images, {len(evaluation)} evaluation images")


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
