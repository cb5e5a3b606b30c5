"""What a request to infer is of, for who doesn't know the model: the sidecar."""

from collections.abc import Iterable

from cycle_server.protocol import v2, v2_image, v2_translation
from cycle_server.protocol.errors import ProtocolError


def kind_of(*, inputs: Iterable[object], outputs: Iterable[object]) -> type[v2.InferRequest]:
    """Of a request whose inputs and outputs have these names."""
    if list(inputs) == [v2_image.INPUT_NAME]:
        return v2_image.ImageInferRequest
    if list(outputs) == [v2_translation.OUTPUT_NAME]:
        return v2_translation.TranslationInferRequest
    return v2.InferRequest


def parse_infer(body: bytes) -> v2.InferRequest:
    """A request for texts or for images that is JSON and is answered in JSON. Raises ProtocolError."""
    kinds: list[type[v2.InferRequest]] = [v2.InferRequest, v2_image.ImageInferRequest]
    if b'"image"' in body:  # a guess, as a text may say so too
        kinds.reverse()
    others: dict[str | None, type[v2.InferRequest]] = {
        "inputs[0].name": kinds[1],
        "outputs[0].name": v2_translation.TranslationInferRequest,
    }
    try:
        return v2.parse_infer(body, kinds[0])
    except ProtocolError as error:
        if error.field not in others:
            raise
        return v2.parse_infer(body, others[error.field])
