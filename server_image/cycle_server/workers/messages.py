"""What front and workers say to each other about a batch, as bytes: nothing is ever unpickled."""

from collections.abc import Sequence

import numpy as np

from cycle_server.items import Items

TOKENS, IMAGES = b"t", b"i"
RESULT, NO_MEMORY, ERROR = b"r", b"m", b"e"
_SHAPE = np.dtype("<i4")


class RemoteError(RuntimeError):
    """What a worker's computation raised: its type and message."""


def write_items(items: Items) -> bytes:
    """TOKENS, the number of texts, the length of each, all ids; or IMAGES, their shape, and all pixels.

    Numbers are little-endian int32, pixels bytes.
    """
    if isinstance(items[0], np.ndarray):
        images = np.concatenate(items)
        return IMAGES + np.array(images.shape, dtype=_SHAPE).tobytes() + images.tobytes()
    lengths = [len(text) for text in items]
    ids = [token for text in items for token in text]
    return TOKENS + np.array([len(lengths), *lengths, *ids], dtype="<i4").tobytes()


def read_items(message: bytes) -> Items:
    if message[:1] == IMAGES:
        shape = np.frombuffer(message, dtype=_SHAPE, offset=1, count=4).tolist()
        pixels = np.frombuffer(message, dtype=np.uint8, offset=1 + 4 * _SHAPE.itemsize).reshape(shape)
        return [pixels[place : place + 1] for place in range(len(pixels))]
    return _read_tokens(message[1:])


def _read_tokens(message: bytes) -> Sequence[Sequence[int]]:
    numbers = np.frombuffer(message, dtype="<i4").tolist()
    count, position = numbers[0], numbers[0] + 1
    texts = []
    for length in numbers[1 : count + 1]:
        texts.append(numbers[position : position + length])
        position += length
    return texts


def write_result(outputs: np.ndarray) -> bytes:
    """RESULT, rows and columns, then the float32 values by rows."""
    return RESULT + np.array(outputs.shape, dtype=_SHAPE).tobytes() + outputs.astype("<f4", copy=False).tobytes()


def write_error(error: Exception, *, out_of_memory: bool) -> bytes:
    return (NO_MEMORY if out_of_memory else ERROR) + f"{type(error).__name__}: {error}".encode()[:4096]


def read_reply(message: bytes) -> np.ndarray:
    """Raises what the worker said went wrong: MemoryError or RemoteError."""
    kind, rest = message[:1], message[1:]
    if kind != RESULT:
        text = rest.decode(errors="replace")
        raise MemoryError(text) if kind == NO_MEMORY else RemoteError(text)
    rows, columns = np.frombuffer(rest[: 2 * _SHAPE.itemsize], dtype=_SHAPE).tolist()
    return np.frombuffer(rest, dtype="<f4", offset=2 * _SHAPE.itemsize).reshape(rows, columns)
