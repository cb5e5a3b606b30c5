"""gRPC calls as they come by HTTP/1.1: the balancer turns its clients' HTTP/2 into it and the answers back.

A message is the same five bytes and data in both, and the status, HTTP/2's trailers, is that of a chunked answer here.
So an answer is written whole at once. gRPC's own server writes the metadata before and apart from the rest, and a pod
that is killed between them costs a call: the balancer asks another pod only before the first byte of an answer.
"""

import re
import zlib
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from cycle_server.protocol import v2
from cycle_server.protocol.errors import ProtocolError
from cycle_server.protocol.grpc_status import OK, SERVICE, RefusedError

PREFIX = f"/{SERVICE}/"
CONTENT_TYPES = {"application/grpc", "application/grpc+proto"}
HEADERS = ("grpc-timeout", "grpc-encoding")  # what is read of gRPC's own
_HEAD_BYTES = 5  # whether the message is compressed, and its length
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_ZLIB_FORMATS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_BEGIN = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Accept-Encoding: identity, deflate, gzip\r\n"
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
Metadata = Iterable[tuple[str, str]]


def message_of(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The one message of a unary call's request. ``headers`` in lower case. Raises ProtocolError and RefusedError."""
    if len(body) < _HEAD_BYTES or int.from_bytes(body[1:_HEAD_BYTES], "big") != len(body) - _HEAD_BYTES:
        raise ProtocolError("isn't one whole message", field="body")
    message = body[_HEAD_BYTES:]
    if body[0]:
        message = _inflated(message, headers.get("grpc-encoding", "identity"))
    if len(message) > v2.MAXIMUM_BODY_BYTES:
        raise too_long()
    return message


def too_long() -> ProtocolError:
    return ProtocolError(f"longer than {v2.MAXIMUM_BODY_BYTES} bytes", field="body", status=413)


def _inflated(message: bytes, encoding: str) -> bytes:
    """At most a byte more than may be: a small message can hold gigabytes."""
    if encoding not in _ZLIB_FORMATS:
        raise RefusedError(f"grpc-encoding {encoding!r} isn't known", status=501)
    reader = zlib.decompressobj(_ZLIB_FORMATS[encoding])
    try:
        found = reader.decompress(message, v2.MAXIMUM_BODY_BYTES + 1)
    except zlib.error as error:
        raise ProtocolError(f"isn't {encoding}", field="body") from error
    if not reader.eof and len(found) <= v2.MAXIMUM_BODY_BYTES:
        raise ProtocolError(f"isn't whole {encoding}", field="body")
    return found


def timeout_seconds(headers: Mapping[str, str]) -> float | None:
    """How long the client waits from the call's beginning; None: for ever. Raises ProtocolError."""
    said = headers.get("grpc-timeout")
    if said is None:
        return None
    found = _TIMEOUT.fullmatch(said)
    if found is None:
        raise ProtocolError("must be a number of up to 8 digits and a unit", field="grpc-timeout")
    return int(found[1]) * _UNITS[found[2]]


def answered(message: bytes, metadata: Metadata) -> bytes:
    """A whole HTTP/1.1 answer with ``message``; ``metadata`` come before it."""
    frame = b"\0" + len(message).to_bytes(4, "big") + message
    head = f"{_BEGIN}{_lines(metadata)}Transfer-Encoding: chunked\r\n\r\n{len(frame):x}\r\n"
    return head.encode("ascii") + frame + b"\r\n0\r\ngrpc-status: %d\r\n\r\n" % OK


def refused(code: int, text: str, metadata: Metadata) -> bytes:
    """One without a message and trailers: gRPC's clients try a call again only when nothing but its status came."""
    said = f"grpc-status: {code}\r\ngrpc-message: {quote(text, safe=_PRINTABLE)}\r\n"
    return f"{_BEGIN}{said}{_lines(metadata)}Content-Length: 0\r\n\r\n".encode("ascii")


def _lines(metadata: Metadata) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in metadata)
