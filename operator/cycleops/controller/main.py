"""Starts the operator. kopf gives the watches, the start and the end; this is the only file that knows it."""

import logging
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import kopf

from cycleops.controller.certificate import Certificate
from cycleops.controller.children import SELECTOR
from cycleops.controller.cycles import build_cycles
from cycleops.controller.inbox import Inbox
from cycleops.controller.kinds import CHILD_KINDS, Kind
from cycleops.controller.kube import Kube
from cycleops.controller.operator import WATCHED, Operator
from cycleops.controller.settings import Settings
from cycleops.controller.store import Store

_LONGEST_BACKOFF_SECONDS = 30.0


class _Backoffs:
    """Delays between tries of a watch: without end, doubling to 30 s, jittered so that replicas spread."""

    def __iter__(self) -> Iterator[float]:
        delay = 0.5
        while True:
            yield delay * random.uniform(0.5, 1.0)
            delay = min(delay * 2.0, _LONGEST_BACKOFF_SECONDS)


class _NoDifferences(kopf.DiffBaseStorage):  # type: ignore[misc]
    """What changed in an object is not asked of kopf: comparing costs half of an event's time, and storing writes."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):  # type: ignore[misc]
    """Nor is any handler's progress kept: our queue retries."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


def _configure(settings: kopf.OperatorSettings) -> None:
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = _NoDifferences()
    settings.persistence.progress_storage = _NoProgress()
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = 1.0  # a worker task per object that just changed: keep them short-lived
    settings.watching.server_timeout = 240
    settings.watching.inactivity_timeout = 90.0
    settings.watching.chunk_size = 500
    settings.networking.error_backoffs = _Backoffs()
    for kind in CHILD_KINDS:
        settings.watching.label_selectors[(kind.group, kind.version, kind.plural)] = SELECTOR


class _Process:
    """Ties the operator's life to kopf's."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._operator: Operator | None = None

    async def startup(self, settings: kopf.OperatorSettings, **_: Any) -> None:
        _configure(settings)
        kube = await self._stack.enter_async_context(Kube.from_environment())
        own = self._settings
        certificate = Certificate(kube=kube, namespace=own.namespace, hosts=own.report_hosts)
        await certificate.load()
        store, inbox = Store(), Inbox()
        cycles = build_cycles(kube=kube, store=store, inbox=inbox, settings=own, certificate=certificate)
        self._operator = Operator(
            kube=kube, store=store, inbox=inbox, settings=own, cycles=cycles, certificate=certificate
        )
        await self._operator.start()

    async def cleanup(self, **_: Any) -> None:
        if self._operator is not None:
            await self._operator.stop()
        await self._stack.aclose()

    def register(self, registry: kopf.OperatorRegistry) -> None:
        # A start that fails ends the process: who restarts it says so, and waits longer each time.
        kopf.on.startup(registry=registry, errors=kopf.ErrorsMode.PERMANENT)(self.startup)
        kopf.on.cleanup(registry=registry)(self.cleanup)
        for kind in WATCHED:
            kopf.on.event(kind.group, kind.version, kind.plural, id=kind.plural, registry=registry)(self._handler(kind))

    def _handler(self, kind: Kind) -> Any:
        async def observe(event: Any, **_: Any) -> None:
            assert self._operator is not None  # kopf watches only after the startup handler
            self._operator.observe(kind, event=event["type"], body=event["object"])

        return observe


def run() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = Settings.from_environment()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for noisy in ("kopf.objects", "kopf.activities"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(kopf.login_via_client)
    _Process(settings).register(registry)
    kopf.run(registry=registry, standalone=True, clusterwide=True)


if __name__ == "__main__":
    run()
