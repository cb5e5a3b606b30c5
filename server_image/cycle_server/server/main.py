"""`cycle-server serve`: listens at once (live, not ready), loads and warms up beside, then is ready."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from cycle_server.drain import Drain, serve_until_drained
from cycle_server.engine.stages import read_manifest
from cycle_server.process import seconds_since_start
from cycle_server.server.answering import Answerer, Served
from cycle_server.server.app import http_app
from cycle_server.server.generator import start_generator
from cycle_server.server.lifecycle import start_model
from cycle_server.server.metrics import ServerMetrics
from cycle_wire.parts import Task
from cycle_wire.serving import ServerConfig

logger = logging.getLogger(__name__)

# Which engine does what.
STARTS: dict[Task, Callable[[ServerConfig, ServerMetrics], Served]] = {
    Task.TEXT_CLASSIFICATION: start_model,
    Task.IMAGE_CLASSIFICATION: start_model,
    Task.RECOMMENDATION: start_model,
    Task.LANGUAGE_MODELING: start_generator,
    Task.TRANSLATION: start_model,
}

QUIET_SECONDS = 4.0  # longer than the sidecar's: it must not outlive its upstream


def serve(config: ServerConfig) -> None:
    """Runs until SIGTERM and drained. Raises BadVariantError, or OSError when a port is taken."""
    asyncio.run(_serve(config))


async def _serve(config: ServerConfig) -> None:
    metrics = ServerMetrics(target_milliseconds=config.target_milliseconds)
    drain = Drain(drain_seconds=config.drain_seconds, quiet_seconds=QUIET_SECONDS)
    task = read_manifest(Path(config.variant_path)).task
    answerer = Answerer(config, task=task, metrics=metrics, drain=drain)
    listening = asyncio.create_task(_listen(answerer))
    loading = asyncio.create_task(asyncio.to_thread(STARTS[task], config, metrics))
    done, _ = await asyncio.wait({listening, loading}, return_when=asyncio.FIRST_COMPLETED)
    if loading in done:
        try:
            answerer.model = loading.result()
        except BaseException:
            listening.cancel()
            raise
        metrics.startup.set(seconds_since_start())
        logger.info("ready after %.1f s, variant %s", seconds_since_start(), config.variant)
    await listening
    if answerer.model is not None:
        await asyncio.to_thread(answerer.model.stop)
    if answerer.tracing is not None:
        await asyncio.to_thread(answerer.tracing.close)


async def _listen(answerer: Answerer) -> None:
    config = answerer.config
    async with AsyncExitStack() as stack:
        if config.grpc_port:
            from cycle_server.server.grpc_service import serving_grpc  # grpc's memory is only for those who use it

            await stack.enter_async_context(serving_grpc(answerer))
        await serve_until_drained(http_app(answerer), host=config.host, port=config.port, drain=answerer.drain)
