"""What the HTTP endpoints share: the errors' form, counting, answers with their timing."""

import time
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from aiohttp.typedefs import Middleware
from pydantic_core import to_json

from cycle_server.batching.batcher import ShedError
from cycle_server.protocol import openai
from cycle_server.protocol.errors import ProtocolError
from cycle_server.protocol.timing import Stopwatch
from cycle_server.protocol.v2 import MAXIMUM_BODY_BYTES
from cycle_server.server.answering import Answerer, Call, retry_after_seconds

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OPENAI_PREFIX = "/v1/"
JSON = "application/json"


def json_response(content: object, *, status: int = 200) -> web.Response:
    return json_body(to_json(content), status=status)


def json_body(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=body, status=status, content_type=JSON, headers=headers)


async def read_call(request: web.Request) -> tuple[Call, bytes]:
    """The body, and what came beside it. Raises aiohttp's HTTPRequestEntityTooLarge."""
    arrived, watch = time.monotonic(), Stopwatch()
    body = await request.read()
    return Call(arrived=arrived, size_bytes=len(body), headers=request.headers, watch=watch), body


def counting(answerer: Answerer) -> Middleware:
    """Requests for answers (all that are sent with POST to a path that there is): in flight, and by status code."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method != "POST" or request.match_info.http_exception is not None:
            return await handler(request)
        with answerer.drain:
            try:
                response = await handler(request)
            except Exception:
                answerer.metrics.requests.labels("500").inc()
                raise
            answerer.metrics.requests.labels(str(response.status)).inc()
            return response

    return count


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """In the form of the endpoint's protocol: OpenAI has its own."""
    path = request.path
    try:
        return await handler(request)
    except ProtocolError as error:
        return _error(path, str(error), field=error.field, status=error.status)
    except ShedError as error:
        response = _error(path, f"overloaded: {error}", status=error.http_status)
        response.headers["Retry-After"] = str(retry_after_seconds(error))
        return response
    except web.HTTPRequestEntityTooLarge:
        return _error(path, f"body: longer than {MAXIMUM_BODY_BYTES} bytes", field="body", status=413)
    except web.HTTPException as error:
        response = _error(path, error.reason, status=error.status)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response


def _error(path: str, message: str, *, field: str = "", status: int) -> web.Response:
    if path.startswith(OPENAI_PREFIX):
        return json_body(openai.error_response(message, field=field, status=status), status=status)
    return json_response({"error": message, **({"field": field} if field else {})}, status=status)
