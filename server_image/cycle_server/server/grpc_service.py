"""Open Inference Protocol v2 over gRPC, on a port of its own: the same way as over HTTP, with gRPC's status codes."""

from __future__ import annotations  # grpc's classes are generic in its type stubs only

import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import Message
from multidict import CIMultiDict, CIMultiDictProxy

from cycle_server.batching.batcher import Computed, ShedError
from cycle_server.engine.stages import Tokens
from cycle_server.protocol import grpc_messages, v2
from cycle_server.protocol import open_inference_pb2 as messages
from cycle_server.protocol.errors import ProtocolError
from cycle_server.protocol.timing import HEADER as TIMING_HEADER
from cycle_server.protocol.timing import format_timing
from cycle_server.server.answering import Answerer, Call, retry_after_seconds
from cycle_server.server.lifecycle import Model
from cycle_server.server.v2_routes import answer_tensors

logger = logging.getLogger(__name__)

SERVICE = "inference.GRPCInferenceService"
STOP_SECONDS = 2.0  # for what is in flight; the drain before it has waited far longer
STATUS_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}

Asked = TypeVar("Asked", bound=Message)
Given = TypeVar("Given", bound=Message)
if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
    Method = Callable[[Asked, Context], Awaitable[Given]]


@asynccontextmanager
async def serving_grpc(answerer: Answerer) -> AsyncIterator[None]:
    """Listens on the configured port until the end of the block. Raises OSError when the port is taken."""
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", v2.MAXIMUM_BODY_BYTES), ("grpc.so_reuseport", 0)]
    )
    server.add_generic_rpc_handlers((GrpcService(answerer).handler(),))
    address = f"{answerer.config.host}:{answerer.config.grpc_port}"
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"can't listen on {address}") from error
    await server.start()
    try:
        yield
    finally:
        await server.stop(STOP_SECONDS)


class GrpcService:
    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    def handler(self) -> grpc.GenericRpcHandler:
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "ServerLive": _method(self._server_live, messages.ServerLiveRequest),
            "ServerReady": _method(self._server_ready, messages.ServerReadyRequest),
            "ModelReady": _method(self._model_ready, messages.ModelReadyRequest),
            "ServerMetadata": _method(self._server_metadata, messages.ServerMetadataRequest),
            "ModelMetadata": _method(self._model_metadata, messages.ModelMetadataRequest),
            "ModelInfer": _method(self._model_infer, messages.ModelInferRequest),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _server_live(
        self, _request: messages.ServerLiveRequest, _context: Context
    ) -> messages.ServerLiveResponse:
        return messages.ServerLiveResponse(live=self._answerer.live)

    async def _server_ready(
        self, _request: messages.ServerReadyRequest, _context: Context
    ) -> messages.ServerReadyResponse:
        return messages.ServerReadyResponse(ready=self._answerer.ready)

    async def _model_ready(self, request: messages.ModelReadyRequest, _context: Context) -> messages.ModelReadyResponse:
        self._answerer.check_model(request.name, request.version or None)
        return messages.ModelReadyResponse(ready=self._answerer.ready)

    async def _server_metadata(
        self, _request: messages.ServerMetadataRequest, _context: Context
    ) -> messages.ServerMetadataResponse:
        # The extension of HTTP's metadata is HTTP's: raw contents are in the protocol here.
        return messages.ServerMetadataResponse(name="cycle-server", version=version("cycle-server"))

    async def _model_metadata(
        self, request: messages.ModelMetadataRequest, _context: Context
    ) -> messages.ModelMetadataResponse:
        answerer = self._answerer
        answerer.check_model(request.name, request.version or None)
        name = answerer.config.model_name
        return grpc_messages.metadata(
            v2.model_metadata(model_name=name, model_version=answerer.version, classes=answerer.classes)
        )

    async def _model_infer(self, message: messages.ModelInferRequest, context: Context) -> messages.ModelInferResponse:
        with self._answerer.drain:
            code = "500"
            try:
                response = await self._infer(message, context)
                code = "200"
            except ProtocolError as error:
                code = str(error.status)
                raise
            except ShedError as error:
                code = str(error.http_status)
                raise
            finally:
                self._answerer.metrics.requests.labels(code).inc()
            return response

    async def _infer(self, message: messages.ModelInferRequest, context: Context) -> messages.ModelInferResponse:
        answerer = self._answerer
        answerer.check_model(message.model_name, message.model_version or None)

        def read(model: Model) -> tuple[v2.InferRequest, Tokens]:
            request = grpc_messages.read(message)
            return request, model.engine.pre(request.texts)

        def write(model: Model, request: v2.InferRequest, computed: Computed) -> messages.ModelInferResponse:
            return grpc_messages.write(
                answer_tensors(model, request, computed),
                model_name=answerer.config.model_name,
                model_version=answerer.version,
                request=request,
                raw=bool(message.raw_input_contents),
            )

        answered = await answerer.answer(_call(message, context), read=read, write=write)
        context.set_trailing_metadata(((TIMING_HEADER.lower(), format_timing(answered.terms)),))
        return answered.content


def _call(message: messages.ModelInferRequest, context: Context) -> Call:
    metadata = CIMultiDict((key, value) for key, value in context.invocation_metadata() or () if isinstance(value, str))
    remaining = context.time_remaining()
    return Call(
        arrived=time.monotonic(),
        size_bytes=message.ByteSize(),
        headers=CIMultiDictProxy(metadata),
        remaining_seconds=math.inf if remaining is None else remaining,
    )


def _method(method: Method[Asked, Given], asked: type[Asked]) -> grpc.RpcMethodHandler[Asked, Given]:
    """With our errors as gRPC's status codes; the texts are HTTP's."""

    async def guarded(request: Asked, context: Context) -> Given:
        trailing: tuple[tuple[str, str], ...] = ()
        try:
            return await method(request, context)
        except ProtocolError as error:
            code, details = STATUS_CODES[error.status], str(error)
        except ShedError as error:
            code, details, trailing = STATUS_CODES[error.http_status], f"overloaded: {error}", _retry(error)
        except Exception:  # noqa: BLE001 - gRPC would tell the client the exception's text
            logger.exception("a call failed")
            code, details = grpc.StatusCode.INTERNAL, "internal error"
        return await context.abort(code, details, trailing)  # raises

    return grpc.unary_unary_rpc_method_handler(
        guarded, request_deserializer=asked.FromString, response_serializer=_serialized
    )


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


def _retry(error: ShedError) -> tuple[tuple[str, str], ...]:
    """HTTP's Retry-After, and gRPC's own word, which its clients' retries follow (gRPC proposal A6)."""
    milliseconds = max(1, math.ceil(error.retry_after_seconds * 1000))
    return (("retry-after", str(retry_after_seconds(error))), ("grpc-retry-pushback-ms", str(milliseconds)))
