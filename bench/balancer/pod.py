"""The pods of the benchmark: real cache sidecars, each before a small server with a stated service time.

    python -m bench.balancer.pod PORT UPSTREAM_PORT SERVICE_MILLISECONDS CACHE_BYTES ADDRESS...

All in one process, which needs a tenth of a core: on two cores, more processes would wait for each other's turns and
not for their queues. Each server answers one request at a time, first come, first served, each after the service time:
a queue as a model server has one, without a model's computing, so that two cores can carry several pods.
"""

import asyncio
import sys

from aiohttp import web
from pydantic_core import from_json, to_json

from cycle_server.drain import Drain
from cycle_server.protocol.timing import Stopwatch, server_headers
from cycle_server.sidecar.app import Sidecar
from cycle_wire.serving import SidecarConfig


def upstream(service_seconds: float) -> web.Application:
    one_at_a_time = asyncio.Lock()

    async def infer(request: web.Request) -> web.Response:
        watch = Stopwatch()
        data = from_json(await request.read())["inputs"][0]["data"]
        watch.lap("pre")
        async with one_at_a_time:
            watch.lap("queue")
            await asyncio.sleep(service_seconds)
            watch.lap("compute")
        answer = {"model_name": "m", "outputs": [{"name": "label", "datatype": "BYTES", "shape": [1], "data": data}]}
        watch.lap("post")
        return web.Response(body=to_json(answer), content_type="application/json", headers=server_headers(watch.terms))

    async def ready(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/v2/models/{model}/infer", infer), web.get("/v2/health/ready", ready)])
    return app


async def start(
    address: str, *, port: int, upstream_port: int, service_seconds: float, cache_bytes: int, drain: Drain
) -> None:
    runner = web.AppRunner(upstream(service_seconds), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address, upstream_port).start()
    config = SidecarConfig(
        upstream=f"http://{address}:{upstream_port}",
        port=port,
        model_digest="sha256:" + "0" * 64,
        variant="bench",
        size_bytes=cache_bytes,
        ttl_seconds=3600,
    )
    await Sidecar(config, drain=drain).start(host=address, port=port)


async def run(port: str, upstream_port: str, milliseconds: str, cache_bytes: str, *addresses: str) -> None:
    drain = Drain(drain_seconds=0, quiet_seconds=0)
    for address in addresses:
        await start(
            address,
            port=int(port),
            upstream_port=int(upstream_port),
            service_seconds=float(milliseconds) / 1000,
            cache_bytes=int(cache_bytes),
            drain=drain,
        )
    drain.listen()
    await drain.finished()


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
