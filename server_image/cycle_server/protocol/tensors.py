"""Tensors of the Open Inference Protocol, and their bytes: numbers little-endian, row by row; each element of BYTES
behind its length as uint32. The binary tensor extension of HTTP and the raw contents of gRPC have the same bytes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cycle_server.protocol.errors import ProtocolError

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Tensor:
    """``data`` row by row: str of BYTES, float of FP32."""

    name: str
    datatype: Literal["BYTES", "FP32"]
    shape: list[int]
    data: Sequence[str] | Sequence[float]

    def raw(self) -> bytes:
        if self.datatype == "FP32":
            return struct.pack(f"<{len(self.data)}f", *self.data)
        elements = [str(element).encode() for element in self.data]
        return b"".join(_LENGTH.pack(len(element)) + element for element in elements)


def read_texts(raw: bytes, *, field: str, limit: int) -> list[str]:
    """The elements of a BYTES tensor, at most ``limit``. Raises ProtocolError with ``field`` or ``field[i]``."""
    texts: list[str] = []
    position = 0
    while position < len(raw):
        if len(texts) == limit:
            raise ProtocolError(f"has more than {limit} elements", field=field)
        first = position + _LENGTH.size
        length = _LENGTH.unpack_from(raw, position)[0] if first <= len(raw) else None
        if length is None or first + length > len(raw):
            raise ProtocolError(f"element {len(texts)} ends behind the tensor's {len(raw)} bytes", field=field)
        position = first + length
        texts.append(decoded(raw[first:position], field=f"{field}[{len(texts)}]"))
    return texts


def decoded(element: bytes, *, field: str) -> str:
    """Raises ProtocolError."""
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"isn't UTF-8 at byte {error.start}", field=field) from error
