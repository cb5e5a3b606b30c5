"""gRPC calls: read into the same request as JSON, so that a question of one protocol is a hit for the other.

A miss goes to the server as JSON, through the same single flight; so a server in a pod needs no gRPC port and nothing
goes around the cache. Imported only where the port is set: grpc is most of its memory.
"""

from __future__ import annotations  # grpc's classes are generic in its type stubs only

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import ClientError
from google.protobuf.message import DecodeError
from pydantic_core import from_json

from cycle_server.drain import Drain
from cycle_server.protocol import grpc_messages, v2
from cycle_server.protocol import open_inference_pb2 as messages
from cycle_server.protocol.errors import ProtocolError
from cycle_server.protocol.grpc_calls import SERVICE, RefusedError, metadata_of, method
from cycle_server.sidecar.key import raw_digest
from cycle_server.sidecar.metrics import SidecarMetrics
from cycle_server.sidecar.responder import JSON_HEADERS, Asked, Reply, Responder
from cycle_server.sidecar.upstream import Upstream
from cycle_wire.headers import DEADLINE_HEADER, TENANT_HEADER

if TYPE_CHECKING:
    from cycle_server.protocol.grpc_calls import Context, Handlers

INFER = f"/{SERVICE}/ModelInfer"  # no path of an infer over HTTP: equal bytes of both are two questions
_DEADLINE, _TENANT = DEADLINE_HEADER.lower(), TENANT_HEADER.lower()
_OF_HTTP = {"content-type", "content-length", "retry-after", v2.TENSOR_HEADER.lower()}  # not in an answer's metadata


class Calls:
    def __init__(self, responder: Responder, *, upstream: Upstream, metrics: SidecarMetrics, drain: Drain) -> None:
        self._responder = responder
        self._upstream = upstream
        self._metrics = metrics
        self._drain = drain

    def handlers(self) -> Handlers:
        return {
            "ServerLive": method(self._server_live, messages.ServerLiveRequest.FromString),
            "ServerReady": method(self._server_ready, messages.ServerReadyRequest.FromString),
            "ModelReady": method(self._model_ready, messages.ModelReadyRequest.FromString),
            "ServerMetadata": method(self._server_metadata, messages.ServerMetadataRequest.FromString),
            "ModelMetadata": method(self._model_metadata, messages.ModelMetadataRequest.FromString),
            "ModelInfer": method(self._model_infer, bytes),
        }

    async def _server_live(
        self, _request: messages.ServerLiveRequest, _context: Context
    ) -> messages.ServerLiveResponse:
        return messages.ServerLiveResponse(live=await self._says_yes("/v2/health/live"))

    async def _server_ready(
        self, _request: messages.ServerReadyRequest, _context: Context
    ) -> messages.ServerReadyResponse:
        ready = not self._drain.draining and await self._says_yes("/v2/health/ready")
        return messages.ServerReadyResponse(ready=ready)

    async def _model_ready(self, request: messages.ModelReadyRequest, _context: Context) -> messages.ModelReadyResponse:
        path = f"{_path(request.name, request.version)}/ready"
        ready = not self._drain.draining and await self._says_yes(path)
        return messages.ModelReadyResponse(ready=ready)

    async def _server_metadata(
        self, _request: messages.ServerMetadataRequest, _context: Context
    ) -> messages.ServerMetadataResponse:
        content = await self._get("/v2")
        # The extension of HTTP's metadata is HTTP's: raw contents are in the protocol here.
        return messages.ServerMetadataResponse(name=content["name"], version=content["version"])

    async def _model_metadata(
        self, request: messages.ModelMetadataRequest, _context: Context
    ) -> messages.ModelMetadataResponse:
        return grpc_messages.metadata(await self._get(_path(request.name, request.version)))

    async def _model_infer(self, came: bytes, context: Context) -> messages.ModelInferResponse:
        with self._drain:
            try:
                asked, message = _asked(came, context)
                reply = self._responder.at_once(asked)
                if reply is None:
                    body = grpc_messages.as_json(grpc_messages.read(message))
                    reply = await self._responder.reply(replace(asked, body=body))
            except ProtocolError as error:
                self._metrics.requests.labels("bypass", str(error.status)).inc()
                raise
            if reply.status != 200:
                raise _refused(reply.status, reply.body, reply.headers)
            response = grpc_messages.of_json(reply.body, raw=bool(message.raw_input_contents))
            await context.send_initial_metadata(_said(reply))
            return response

    async def _says_yes(self, path: str) -> bool:
        """A server that can't be reached says no."""
        try:
            await self._get(path)
        except RefusedError as error:
            if error.status != 503:
                raise
            return False
        return True

    async def _get(self, path: str) -> dict[str, Any]:
        """Raises RefusedError with the server's own words."""
        try:
            answer = await self._upstream.send("GET", path, body=None, headers={})
        except (ClientError, TimeoutError) as error:
            raise RefusedError(f"the server can't be reached: {error}", status=503) from error
        if answer.status != 200:
            raise _refused(answer.status, answer.body, answer.headers)
        content: dict[str, Any] = from_json(answer.body)
        return content


def _asked(came: bytes, context: Context) -> tuple[Asked, messages.ModelInferRequest]:
    """The request without a body yet: who asks again needs none. Raises ProtocolError."""
    headers = metadata_of(context)
    headers.pop(v2.TENSOR_HEADER.lower(), None)
    headers.update({name.lower(): value for name, value in JSON_HEADERS.items()})
    _shorten(headers, context.time_remaining())
    try:
        message = messages.ModelInferRequest.FromString(came)
    except DecodeError as error:
        raise ProtocolError("isn't a ModelInferRequest", field="body") from error
    path = f"{_path(message.model_name, message.model_version)}/infer"
    digest = raw_digest(path=INFER, tenant=headers.get(_TENANT, ""), body=came)
    return Asked(path=path, headers=headers, body=b"", digest=digest), message


def _shorten(headers: dict[str, str], remaining_seconds: float | None) -> None:
    """The call's own deadline, where that comes before what the metadata say. What they say wrong, the server says."""
    if remaining_seconds is None or remaining_seconds == math.inf:
        return
    milliseconds = max(1000 * remaining_seconds, 0.0)
    try:
        later = float(headers.get(_DEADLINE, "inf")) > milliseconds
    except ValueError:
        later = False
    if later:
        headers[_DEADLINE] = f"{milliseconds:.3f}"


def _path(model: str, version: str) -> str:
    """Of a model over HTTP, as HTTP's clients write it: the key is made of it."""
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _said(reply: Reply) -> tuple[tuple[str, str], ...]:
    """The answer's headers as metadata. At the call's beginning: the balancer reads its times there, as HTTP's."""
    return tuple((low, value) for name, value in reply.headers.items() if (low := name.lower()) not in _OF_HTTP)


def _refused(status: int, body: bytes, headers: Mapping[str, str]) -> RefusedError:
    try:
        text = str(from_json(body)["error"])
    except (ValueError, KeyError, TypeError):
        text = f"the server answered {status}"
    seconds = headers.get("Retry-After", "")
    return RefusedError(text, status=status, retry_after_seconds=float(seconds) if seconds.isdecimal() else None)
