"""What the HTTP endpoints answer, as the OpenAPI document describes it: answers that no model of ours writes."""

from typing import Literal

from pydantic import Field

from cycle_server.protocol import v2, v2_text


class ErrorBody(v2.Part):
    """``field`` names what to mend."""

    error: str
    field: str | None = None


class LiveBody(v2.Part):
    live: bool


class ReadyBody(v2.Part):
    ready: bool


class ModelReadyBody(v2.Part):
    name: str
    ready: bool


class ServerMetadataBody(v2.Part):
    name: str
    version: str
    extensions: list[str]


class TensorMetadataBody(v2.Part):
    name: str
    datatype: str
    shape: list[int]


class ModelMetadataBody(v2.Part):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadataBody]
    outputs: list[TensorMetadataBody]


class OutputBody(v2.Part):
    name: v2.OutputName
    datatype: str
    shape: list[int]
    data: list[str] | list[float] = Field(default_factory=list, description="Not there when it is binary.")
    parameters: dict[str, int] = Field(default_factory=dict, description="binary_data_size, when it is binary.")


class _Response(v2.Part):
    model_name: str
    model_version: str
    id: str | None = None


class InferResponseBody(_Response):
    outputs: list[OutputBody]


class _TextTensor(v2.Part):
    name: str
    datatype: str
    shape: list[int]
    data: list[str] = Field(default_factory=list, description="Not there when it is binary.")
    parameters: dict[str, int] = Field(default_factory=dict, description="binary_data_size, when it is binary.")


class TranslationOutputBody(_TextTensor):
    name: Literal["translation"]


class TranslationInferResponseBody(_Response):
    outputs: list[TranslationOutputBody]


class TextOutputBody(_TextTensor):
    name: v2_text.TextOutputName


class TextInferResponseBody(_Response):
    outputs: list[TextOutputBody]
