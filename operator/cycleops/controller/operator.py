"""The running operator, without what feeds it: events in, passes out, probes and reports served, drained at the end."""

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping
from typing import Any

from cycleops.controller import metrics
from cycleops.controller.certificate import Certificate
from cycleops.controller.children import SELECTOR
from cycleops.controller.health import HealthServer
from cycleops.controller.inbox import Inbox
from cycleops.controller.kinds import (
    CHILD_KINDS,
    CYCLE_JOB,
    CYCLE_PROFILE,
    CYCLE_SERVICE,
    HARDWARE_CLASS,
    JOB_LABEL,
    SERVICE_LABEL,
    Kind,
)
from cycleops.controller.kube import ApiError, Kube
from cycleops.controller.queue import Key, KeyedQueue
from cycleops.controller.reconcile import Cycle, Reconciler
from cycleops.controller.report import ReportServer
from cycleops.controller.settings import Settings
from cycleops.controller.store import Body, Store

logger = logging.getLogger(__name__)

USER_KINDS = (CYCLE_JOB, CYCLE_SERVICE, CYCLE_PROFILE, HARDWARE_CLASS)
WATCHED = (*USER_KINDS, *CHILD_KINDS)
CERTIFICATE_CHECK_SECONDS = 6 * 3600.0


class Operator:
    """``start`` returns when caches are filled and passes run; ``stop`` drains."""

    def __init__(
        self,
        *,
        kube: Kube,
        store: Store,
        inbox: Inbox,
        settings: Settings,
        cycles: Mapping[str, Cycle[Any]],
        certificate: Certificate,
    ) -> None:
        self._kube, self._store, self._inbox, self._settings = kube, store, inbox, settings
        self._cycles = cycles
        self._certificate = certificate
        reconciler = Reconciler(kube=kube, store=store, cycles=cycles)
        self.queue = KeyedQueue(run_pass=reconciler.run_pass, workers=settings.workers)
        self._health = HealthServer(stalled_seconds=self.queue.stalled_seconds, ready=lambda: self._filled)
        self._reports = ReportServer(
            kube=kube,
            store=store,
            inbox=inbox,
            accepting=lambda: self._filled and not self._draining,
            enqueue=lambda key, after_seconds: self.queue.add(key, after_seconds=after_seconds),
        )
        self._filled = self._draining = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self._health.start(port=self._settings.metrics_port)
        await self._reports.start(port=self._settings.report_port, tls=self._certificate.context)
        await self._resync()
        self._filled = True
        loops = {"queue": self.queue.run(), "resync": self._resync_forever(), "certificate": self._renew_forever()}
        for name, loop in loops.items():
            task = asyncio.create_task(loop, name=name)
            task.add_done_callback(_exit_on_failure)
            self._tasks.append(task)
        logger.info("caches filled, passes begin")

    async def stop(self) -> None:
        """Take no more reports, finish the passes under way, close."""
        self._draining = True
        cut_off = await self.queue.drain(timeout_seconds=self._settings.drain_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._reports.stop()
        await self._health.stop()
        logger.info("drained, %d passes cut off", cut_off)

    def observe(self, kind: Kind, *, event: str | None, body: Body) -> None:
        """Take in a watch event. Echoes of our own writes wake only those for whom they are news: other objects."""
        metrics.EVENTS.labels(kind=kind.kind).inc()
        news = True
        if event == "DELETED":
            self._store.remove(kind, body)
            if kind in (CYCLE_JOB, CYCLE_SERVICE):
                self._inbox.forget(_key(kind, body["metadata"]))
        else:
            news = self._store.put(kind, body)
        if self._filled:
            keys = self._keys(kind, body["metadata"]) if news else self._dependents(kind, body["metadata"])
            for key in keys:
                self.queue.add(key)

    def _keys(self, kind: Kind, metadata: Mapping[str, Any]) -> Iterable[Key]:
        namespace = metadata.get("namespace", "")
        if kind in CHILD_KINDS:
            labels = metadata.get("labels", {})
            for label, owner in ((JOB_LABEL, CYCLE_JOB), (SERVICE_LABEL, CYCLE_SERVICE)):
                if label in labels:
                    yield Key.of(owner, namespace=namespace, name=labels[label])
            return
        if kind.kind in self._cycles:
            yield _key(kind, metadata)
        yield from self._dependents(kind, metadata)

    def _dependents(self, kind: Kind, metadata: Mapping[str, Any]) -> Iterable[Key]:
        """Objects that look at this one without being its owner: a CycleService at its CycleJob and CycleProfiles."""
        if kind in CHILD_KINDS:
            return
        for cycle in self._cycles.values():
            yield from cycle.dependents(kind=kind, namespace=metadata.get("namespace", ""), name=metadata["name"])

    async def _resync(self) -> None:
        """Compare with full listings, to find deletions that a broken watch missed, and look at everything again."""
        for kind in WATCHED:
            bodies, version = [], "0"
            selector = SELECTOR if kind in CHILD_KINDS else None
            async for page_version, page in self._kube.pages(kind=kind, selector=selector):
                version = page_version
                bodies.extend(page)
            missed = self._store.reconcile_listing(kind, bodies, version=int(version))
            for facts in missed:
                logger.info("%s %s/%s is gone, which no watch told", kind.kind, facts.namespace, facts.name)
        for kind in (CYCLE_JOB, CYCLE_SERVICE):
            if kind.kind in self._cycles:
                for facts in self._store.all(kind):
                    self.queue.add(Key.of(kind, namespace=facts.namespace, name=facts.name))

    async def _resync_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.resync_seconds * random.uniform(0.8, 1.2))
            try:
                await self._resync()
            except ApiError as error:
                logger.warning("resync failed, the next one is as usual: %s", error)

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(CERTIFICATE_CHECK_SECONDS)
            try:
                if await self._certificate.load():
                    await self._resync()  # every ConfigMap gets the new authority
            except ApiError as error:
                logger.warning("the report server's certificate could not be checked: %s", error)


def _key(kind: Kind, metadata: Mapping[str, Any]) -> Key:
    return Key.of(kind, namespace=metadata.get("namespace", ""), name=metadata["name"])


def _exit_on_failure(task: asyncio.Task[None]) -> None:
    """A loop that ends by an error must end the process, or it would look alive and do nothing."""
    if not task.cancelled() and task.exception() is not None:
        logger.critical("%s failed", task.get_name(), exc_info=task.exception())
        raise SystemExit(1)
