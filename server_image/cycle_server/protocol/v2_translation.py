"""Open Inference Protocol v2 for translation: the same messages as for classification, with another output.

One input, ``text`` BYTES [n]. One output, ``translation`` BYTES [n]. Server and sidecar share this file: no torch here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from cycle_server.protocol import v2
from cycle_server.protocol.tensors import Tensor

OUTPUT_NAME: Literal["translation"] = "translation"


class TranslationOutput(v2.Part):
    name: Literal["translation"]
    parameters: v2.OutputParameters = v2.OutputParameters()


class TranslationInferRequest(v2.InferRequest):
    outputs: list[TranslationOutput] = Field(  # type: ignore[assignment]  # another name
        default_factory=lambda: [TranslationOutput(name=OUTPUT_NAME)], min_length=1, max_length=1
    )


def output_tensors(translations: Sequence[str]) -> list[Tensor]:
    return [Tensor(OUTPUT_NAME, "BYTES", [len(translations)], translations)]


def model_metadata(*, model_name: str, model_version: str) -> Mapping[str, Any]:
    return {
        "name": model_name,
        "versions": [model_version],
        "platform": "cycleops_torch",
        "inputs": [v2.TEXT_INPUT],
        "outputs": [{"name": OUTPUT_NAME, "datatype": "BYTES", "shape": [-1]}],
    }
