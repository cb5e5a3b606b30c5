"""The server's gRPC port, and our errors as gRPC's codes."""

from __future__ import annotations  # grpc's classes are generic in its type stubs only

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import Message

from cycle_server.protocol import v2
from cycle_server.protocol.errors import ProtocolError
from cycle_server.protocol.grpc_status import CODES, INTERNAL, SERVICE, RefusedError, retry

logger = logging.getLogger(__name__)

STOP_SECONDS = 2.0  # for what is in flight; the drain before it has waited far longer
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Asked = TypeVar("Asked")
Given = TypeVar("Given", bound=Message)
if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
    Method = Callable[[Asked, Context], Awaitable[Given]]
    Handlers = Mapping[str, grpc.RpcMethodHandler[Any, Any]]


def method(answer: Method[Asked, Given], read: Callable[[bytes], Asked]) -> grpc.RpcMethodHandler[Asked, Given]:
    """A unary method. It may raise ProtocolError and RefusedError, whose texts are HTTP's."""

    async def guarded(request: Asked, context: Context) -> Given:
        trailing: tuple[tuple[str, str], ...] = ()
        try:
            return await answer(request, context)
        except ProtocolError as error:
            number, details = CODES[error.status], str(error)
        except RefusedError as error:
            number, details = CODES.get(error.status, INTERNAL), str(error)
            trailing = retry(error.retry_after_seconds)
        except Exception:  # noqa: BLE001 - gRPC would tell the client the exception's text
            logger.exception("a call failed")
            number, details = INTERNAL, "internal error"
        return await context.abort(_CODES[number], details, trailing)  # raises

    return grpc.unary_unary_rpc_method_handler(
        guarded, request_deserializer=read, response_serializer=lambda message: message.SerializeToString()
    )


async def listen(handlers: Handlers, *, host: str, port: int) -> grpc.aio.Server:
    """A server that has begun; stop(STOP_SECONDS) says GOAWAY. Raises OSError when the port is taken."""
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", v2.MAXIMUM_BODY_BYTES), ("grpc.so_reuseport", 0)]
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, dict(handlers)),))
    address = f"{host}:{port}"
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"can't listen on {address}") from error
    await server.start()
    return server


def metadata_of(context: Context) -> dict[str, str]:
    """The call's metadata by name, in lower case; the first of those that are given twice. Raises ProtocolError."""
    found: dict[str, str] = {}
    for name, value in context.invocation_metadata() or ():
        if name.endswith("-bin"):
            continue
        if not isinstance(value, str):
            raise ProtocolError("isn't UTF-8", field=name)
        found.setdefault(name, value)
    return found
