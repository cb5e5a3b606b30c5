"""The server's HTTP application: every protocol's routes, and metrics."""

from aiohttp import web

from cycle_server.protocol.v2 import MAXIMUM_BODY_BYTES
from cycle_server.server.answering import Answerer
from cycle_server.server.http import counting, errors_as_json
from cycle_server.server.metrics import exposition
from cycle_server.server.openai_routes import OpenAIRoutes
from cycle_server.server.task_routes import TaskRoutes
from cycle_server.server.v2_routes import V2Routes


def http_app(answerer: Answerer) -> web.Application:
    app = web.Application(client_max_size=MAXIMUM_BODY_BYTES, middlewares=[counting(answerer), errors_as_json])
    for endpoints in (V2Routes(answerer), TaskRoutes(answerer), OpenAIRoutes(answerer)):
        app.add_routes(endpoints.routes())

    async def metrics(request: web.Request) -> web.Response:
        text, content_type = _exposed(answerer, request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    app.add_routes([web.get("/metrics", metrics)])
    return app


def _exposed(answerer: Answerer, accept: str) -> tuple[bytes, str]:
    answerer.metrics.ready.set(answerer.ready)
    answerer.metrics.in_flight.set(answerer.drain.in_flight)
    answerer.metrics.queue_depth.set(answerer.model.batcher.depth if answerer.model else 0)
    return exposition(answerer.metrics.registry, accept)
