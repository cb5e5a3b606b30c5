"""Open Inference Protocol v2 over gRPC, on a port of its own: the same way as over HTTP, with gRPC's status codes."""

from __future__ import annotations  # grpc's classes are generic in its type stubs only

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from multidict import CIMultiDict, CIMultiDictProxy

from cycle_server.batching.batcher import Computed, ShedError
from cycle_server.items import Items
from cycle_server.protocol import grpc_messages, v2
from cycle_server.protocol import open_inference_pb2 as messages
from cycle_server.protocol.errors import ProtocolError
from cycle_server.protocol.grpc_calls import STOP_SECONDS, listen, metadata_of, method
from cycle_server.protocol.grpc_status import RefusedError
from cycle_server.protocol.timing import HEADER as TIMING_HEADER
from cycle_server.protocol.timing import format_timing
from cycle_server.server.answering import Answerer, Call
from cycle_server.server.lifecycle import Model
from cycle_server.server.reading import items_of, kind_read_by
from cycle_server.server.v2_routes import answer_tensors

if TYPE_CHECKING:
    from cycle_server.protocol.grpc_calls import Context, Handlers


@asynccontextmanager
async def serving_grpc(answerer: Answerer) -> AsyncIterator[None]:
    """Listens on the configured port until the end of the block. Raises OSError when the port is taken."""
    config = answerer.config
    server = await listen(GrpcService(answerer).handlers(), host=config.host, port=config.grpc_port)
    try:
        yield
    finally:
        await server.stop(STOP_SECONDS)


class GrpcService:
    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    def handlers(self) -> Handlers:
        return {
            "ServerLive": method(self._server_live, messages.ServerLiveRequest.FromString),
            "ServerReady": method(self._server_ready, messages.ServerReadyRequest.FromString),
            "ModelReady": method(self._model_ready, messages.ModelReadyRequest.FromString),
            "ServerMetadata": method(self._server_metadata, messages.ServerMetadataRequest.FromString),
            "ModelMetadata": method(self._model_metadata, messages.ModelMetadataRequest.FromString),
            "ModelInfer": method(self._model_infer, messages.ModelInferRequest.FromString),
        }

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
        self._answerer.check_model(request.name, request.version or None)
        return grpc_messages.metadata(self._answerer.model_metadata())

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
                raise RefusedError(
                    f"overloaded: {error}", status=error.http_status, retry_after_seconds=error.retry_after_seconds
                ) from error
            finally:
                self._answerer.metrics.requests.labels(code).inc()
            return response

    async def _infer(self, message: messages.ModelInferRequest, context: Context) -> messages.ModelInferResponse:
        answerer = self._answerer
        answerer.check_model(message.model_name, message.model_version or None)

        def read(model: Model) -> tuple[v2.InferRequest, Items]:
            request = grpc_messages.read(message, kind_read_by(model.engine))
            return request, items_of(model.engine, request)

        def write(model: Model, request: v2.InferRequest, computed: Computed) -> messages.ModelInferResponse:
            return grpc_messages.write(
                answer_tensors(model, request, computed),
                model_name=answerer.config.model_name,
                model_version=answerer.version,
                request_id=request.id or "",
                raw=bool(message.raw_input_contents),
            )

        answered = await answerer.answer(_call(message, context), read=read, write=write)
        await context.send_initial_metadata(((TIMING_HEADER.lower(), format_timing(answered.terms)),))
        return answered.content


def _call(message: messages.ModelInferRequest, context: Context) -> Call:
    remaining = context.time_remaining()
    return Call(
        arrived=time.monotonic(),
        size_bytes=message.ByteSize(),
        headers=CIMultiDictProxy(CIMultiDict(metadata_of(context))),
        remaining_seconds=math.inf if remaining is None else remaining,
    )
