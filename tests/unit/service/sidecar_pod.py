"""A pod as a process: a real sidecar on an address of its own, before a server that answers with that address.

python -m tests.unit.service.sidecar_pod ADDRESS PORT. A text that begins with "slow" takes 0.3 s.
SIGTERM drains it as in a cluster.
"""

import asyncio
import sys

import uvloop
from aiohttp import web

from cycle_server.drain import Drain
from cycle_server.protocol import v2
from cycle_server.sidecar.app import Sidecar
from cycle_wire.serving import SidecarConfig


async def serve(address: str, port: int) -> None:
    async def infer(request: web.Request) -> web.Response:
        texts = v2.parse_infer(await request.read()).texts
        if texts[0].startswith("slow"):
            await asyncio.sleep(0.3)
        tenant = request.headers.get("X-Cycle-Tenant", "")
        output = {"name": "label", "datatype": "BYTES", "shape": [2], "data": [address, tenant]}
        answer = {"model_name": "m", "model_version": "1", "outputs": [output]}
        return web.json_response(answer, headers={"Server-Timing": "queue;dur=0.100, compute;dur=0.200"})

    async def ready(_request: web.Request) -> web.Response:
        return web.json_response({"ready": True})

    app = web.Application()
    app.router.add_post("/v2/models/m/infer", infer)
    for path in ("/v2/health/ready", "/v2/health/live"):
        app.router.add_get(path, ready)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, address, 0)
    await site.start()
    upstream = f"http://{address}:{runner.addresses[0][1]}"
    config = SidecarConfig(upstream=upstream, grpc=True, model_digest="sha256:" + "a" * 64, variant="v")
    drain = Drain(drain_seconds=10, quiet_seconds=2)
    sidecar = Sidecar(config, drain=drain)
    await sidecar.start(host=address, port=port)
    drain.listen()
    print("ready", flush=True)
    await drain.finished()
    await sidecar.stop()
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
