"""gRPC calls: read into the same request as JSON, so that a question of one protocol is a hit for the other.

A miss goes to the server as JSON, through the same single flight; so a server in a pod needs no gRPC port and nothing
goes around the cache. Imported only where gRPC is served: protobuf's memory is for those who use it.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import quote

from aiohttp import ClientError
from google.protobuf.message import DecodeError, Message
from pydantic_core import from_json

from cycle_server.drain import Drain
from cycle_server.protocol import grpc_messages, v2, v2_kinds
from cycle_server.protocol import open_inference_pb2 as messages
from cycle_server.protocol.errors import ProtocolError
from cycle_server.protocol.grpc_status import CODES, INTERNAL, RefusedError, retry
from cycle_server.sidecar import call_bytes
from cycle_server.sidecar.key import raw_digest
from cycle_server.sidecar.metrics import SidecarMetrics
from cycle_server.sidecar.responder import JSON_HEADERS, Asked, Reply, Responder
from cycle_server.sidecar.upstream import Upstream
from cycle_wire.headers import DEADLINE_HEADER, TENANT_HEADER

logger = logging.getLogger(__name__)

INFER = f"{call_bytes.PREFIX}ModelInfer"  # no path of an infer over HTTP: equal bytes of both are two questions
_DEADLINE, _TENANT = DEADLINE_HEADER.lower(), TENANT_HEADER.lower()
_OF_HTTP = {"content-type", "content-length", "retry-after", v2.TENSOR_HEADER.lower()}  # not in an answer's metadata
M = TypeVar("M", bound=Message)
Headers = Mapping[str, str]  # in lower case
Answer = tuple[Message, tuple[tuple[str, str], ...]]  # and the metadata that come before it


class Calls:
    def __init__(self, responder: Responder, *, upstream: Upstream, metrics: SidecarMetrics, drain: Drain) -> None:
        self._responder = responder
        self._upstream = upstream
        self._metrics = metrics
        self._drain = drain
        self._methods: dict[str, Callable[[bytes, Headers], Awaitable[Answer]]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
        }

    async def answer(self, path: str, headers: Headers, body: bytes | None) -> bytes:
        """The whole HTTP answer to a call; ``body`` None was too long to be kept."""
        metadata: tuple[tuple[str, str], ...] = ()
        try:
            found = self._methods.get(path.removeprefix(call_bytes.PREFIX))
            if found is None:
                raise RefusedError(f"there is no method {path}", status=501)
            message, metadata = await found(_message(headers, body), headers)
            return call_bytes.answered(message.SerializeToString(), metadata)
        except ProtocolError as error:
            code, text = CODES[error.status], str(error)
        except RefusedError as error:
            code, text = CODES.get(error.status, INTERNAL), str(error)
            metadata = retry(error.retry_after_seconds)
        except Exception:
            logger.exception("a call failed")
            code, text = INTERNAL, "internal error"
        return call_bytes.refused(code, text, metadata)

    async def _server_live(self, _came: bytes, _headers: Headers) -> Answer:
        return messages.ServerLiveResponse(live=await self._says_yes("/v2/health/live")), ()

    async def _server_ready(self, _came: bytes, _headers: Headers) -> Answer:
        ready = not self._drain.draining and await self._says_yes("/v2/health/ready")
        return messages.ServerReadyResponse(ready=ready), ()

    async def _model_ready(self, came: bytes, _headers: Headers) -> Answer:
        request = _read(messages.ModelReadyRequest, came)
        path = f"{_path(request.name, request.version)}/ready"
        ready = not self._drain.draining and await self._says_yes(path)
        return messages.ModelReadyResponse(ready=ready), ()

    async def _server_metadata(self, _came: bytes, _headers: Headers) -> Answer:
        content = await self._get("/v2")
        # The extension of HTTP's metadata is HTTP's: raw contents are in the protocol here.
        return messages.ServerMetadataResponse(name=content["name"], version=content["version"]), ()

    async def _model_metadata(self, came: bytes, _headers: Headers) -> Answer:
        request = _read(messages.ModelMetadataRequest, came)
        return grpc_messages.metadata(await self._get(_path(request.name, request.version))), ()

    async def _model_infer(self, came: bytes, headers: Headers) -> Answer:
        with self._drain:
            try:
                asked, message = _asked(came, headers)
                reply = self._responder.at_once(asked)
                if reply is None:
                    body = grpc_messages.as_json(grpc_messages.read(message, _kind(message)))
                    reply = await self._responder.reply(replace(asked, body=body))
            except ProtocolError as error:
                self._metrics.requests.labels("bypass", str(error.status)).inc()
                raise
            if reply.status != 200:
                raise _refused(reply.status, reply.body, reply.headers)
            return grpc_messages.of_json(reply.body, raw=bool(message.raw_input_contents)), _said(reply)

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


def _message(headers: Headers, body: bytes | None) -> bytes:
    """Raises ProtocolError and RefusedError."""
    if body is None:
        raise call_bytes.too_long()
    for name, value in headers.items():
        if any("\ud800" <= character <= "\udfff" for character in value):  # bytes that were no UTF-8
            raise ProtocolError("isn't UTF-8", field=name)
    return call_bytes.message_of(body, headers)


def _read(kind: type[M], came: bytes) -> M:
    """Raises ProtocolError."""
    try:
        return kind.FromString(came)
    except DecodeError as error:
        raise ProtocolError(f"isn't a {kind.DESCRIPTOR.name}", field="body") from error


def _asked(came: bytes, headers: Headers) -> tuple[Asked, messages.ModelInferRequest]:
    """The request without a body yet: who asks again needs none. Raises ProtocolError."""
    known = {name: value for name, value in headers.items() if name != v2.TENSOR_HEADER.lower()}
    known.update({name.lower(): value for name, value in JSON_HEADERS.items()})
    _shorten(known, call_bytes.timeout_seconds(headers))
    message = _read(messages.ModelInferRequest, came)
    path = f"{_path(message.model_name, message.model_version)}/infer"
    digest = raw_digest(path=INFER, tenant=known.get(_TENANT, ""), body=came)
    return Asked(path=path, headers=known, body=b"", digest=digest), message


def _kind(message: messages.ModelInferRequest) -> type[v2.InferRequest]:
    inputs, outputs = (tensor.name for tensor in message.inputs), (tensor.name for tensor in message.outputs)
    return v2_kinds.kind_of(inputs=inputs, outputs=outputs)


def _shorten(headers: dict[str, str], remaining_seconds: float | None) -> None:
    """The call's own deadline, where that comes before what the metadata say. What they say wrong, the server says."""
    if remaining_seconds is None:
        return
    milliseconds = 1000 * remaining_seconds
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
