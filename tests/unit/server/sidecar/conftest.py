"""The sidecar's tests run on the sidecar's event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.unit.server.sidecar.pods import Pod, make_pod


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    async for made in make_pod():
        yield made
