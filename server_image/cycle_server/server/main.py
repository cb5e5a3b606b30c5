"""`cycle-server serve`: listens at once (live, not ready), loads and warms up beside, then is ready."""

import asyncio
import logging

from cycle_server.drain import Drain, serve_until_drained
from cycle_server.process import seconds_since_start
from cycle_server.server.app import QUIET_SECONDS, Server
from cycle_server.server.lifecycle import start_model
from cycle_server.server.metrics import ServerMetrics
from cycle_wire.serving import ServerConfig

logger = logging.getLogger(__name__)


def serve(config: ServerConfig) -> None:
    """Runs until SIGTERM and drained. Raises BadVariantError, or OSError when the port is taken."""
    asyncio.run(_serve(config))


async def _serve(config: ServerConfig) -> None:
    metrics = ServerMetrics(target_milliseconds=config.target_milliseconds)
    drain = Drain(drain_seconds=config.drain_seconds, quiet_seconds=QUIET_SECONDS)
    server = Server(config, metrics=metrics, drain=drain)
    listening = asyncio.create_task(serve_until_drained(server.app(), host=config.host, port=config.port, drain=drain))
    loading = asyncio.create_task(asyncio.to_thread(start_model, config, metrics))
    done, _ = await asyncio.wait({listening, loading}, return_when=asyncio.FIRST_COMPLETED)
    if loading in done:
        try:
            server.model = loading.result()
        except BaseException:
            listening.cancel()
            raise
        metrics.startup.set(seconds_since_start())
        logger.info("ready after %.1f s, variant %s", seconds_since_start(), config.variant)
    await listening
    if server.model is not None:
        await asyncio.to_thread(server.model.batcher.stop)
    if server.tracing is not None:
        await asyncio.to_thread(server.tracing.close)
