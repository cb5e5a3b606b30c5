"""Reads the real T from the pods. Works where pod addresses can be reached: inside the cluster."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from cycleops.service.children import BALANCER_ROLE, SERVER_ROLE
from cycleops.service.deployed import Deployed
from cycleops.service.haproxy import ADMIN_PORT, POD_PORT
from cycleops.service.haproxy_times import PAGES
from cycleops.service.histograms import Scrape, Series, Window, parse
from cycleops.service.interval import Interval, interval_of
from cycleops.service.observation import Measurement
from cycleops.service.rollout import Pod

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 15.0
WINDOW_SECONDS = 60.0
# Status changes at most this often, and only when there was traffic.
PUBLISH_SECONDS = 30.0
STALE_AFTER_FAILURES = 3
_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
# The balancers have all of T, the sidecars what they see of it with its outcomes, and the servers, whose metrics the
# sidecars pass on, T's terms (and a T without the cache, which is left out).
_SIDECAR, _TERMS = f":{POD_PORT}/metrics", f":{POD_PORT}/metrics/server"
_URLS = {
    SERVER_ROLE: (_SIDECAR, _TERMS),
    BALANCER_ROLE: tuple(f":{ADMIN_PORT}{path}" for path in ("/metrics?scope=frontend", *PAGES)),
}


@dataclass(slots=True)
class _Watched:
    """What is remembered of one service: a few scrapes and what was last published."""

    deployed: Deployed
    window: Window = field(default_factory=lambda: Window(span_seconds=WINDOW_SECONDS))
    scraped_at: float = 0.0
    published: Measurement = Measurement()
    published_at: float = 0.0
    failures: int = 0
    interval: Interval | None = None


class Measurer:
    """One for all services. Times are seconds since the epoch, given by the caller."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}

    def due(self, uid: str, *, now: float) -> bool:
        """Whether it is time to read the pods of the service ``uid`` again."""
        watched = self._watched.get(uid)
        return watched is None or now - watched.scraped_at >= INTERVAL_SECONDS * 0.9

    def last(self, uid: str) -> Measurement:
        """What was published last."""
        watched = self._watched.get(uid)
        return watched.published if watched is not None else Measurement()

    def interval(self, uid: str) -> Interval | None:
        """The newest one that is a measurement; None before the first."""
        watched = self._watched.get(uid)
        return watched.interval if watched is not None else None

    def keep_only(self, uids: set[str]) -> None:
        for uid in self._watched.keys() - uids:
            del self._watched[uid]

    async def measure(
        self, uid: str, *, pods: Sequence[Pod], deployed: Deployed, percentile: float, now: float
    ) -> Measurement:
        """One round over the ready servers and balancers. Those that can't be read are left out; without a server that
        can it is stale. Pods of other roles, such as the shared cache's, have nothing to say of T.
        """
        watched = self._watched.get(uid)
        if watched is None or not watched.deployed.is_like(deployed):  # another plan's numbers must not judge this one
            before = watched.published if watched is not None else Measurement()
            watched = self._watched[uid] = _Watched(deployed=deployed, published=before)
        ready = [pod for pod in pods if pod.ready and pod.address and pod.role in _URLS]
        scrapes, problem = await _scrape(ready)
        watched.scraped_at = now
        servers = {pod.uid for pod in ready if pod.role == SERVER_ROLE}
        if servers and not servers & scrapes.keys():
            return self._unreadable(watched, problem)
        watched.failures = 0
        happened = watched.window.add(scrapes, now=now)
        if happened is not None:
            balancers = {pod.uid for pod in ready if pod.role == BALANCER_ROLE}
            budget = deployed.target_milliseconds
            found = interval_of(happened, balancers=balancers, servers=servers, budget_milliseconds=budget)
            watched.interval = found or watched.interval
        self._publish(watched, percentile=percentile, now=now)
        return watched.published

    def _publish(self, watched: _Watched, *, percentile: float, now: float) -> None:
        was_stale = bool(watched.published.stale)
        measured = watched.window.measured(percentile=percentile)
        if was_stale:
            watched.published = Measurement(measured=watched.published.measured)
        if measured is not None and now - watched.published_at >= PUBLISH_SECONDS:
            watched.published, watched.published_at = Measurement(measured=measured), now

    def _unreadable(self, watched: _Watched, problem: str) -> Measurement:
        watched.failures += 1
        if watched.failures >= STALE_AFTER_FAILURES:
            # Without the numbers of the attempt: the message must not change by itself.
            stale = f"no server pod's metrics can be read: {problem}"
            watched.published = Measurement(measured=watched.published.measured, stale=stale)
        return watched.published


async def _scrape(pods: Sequence[Pod]) -> tuple[dict[str, Scrape], str]:
    """Scrapes by pod uid, and why the last pod that could not be read could not."""
    if not pods:
        return {}, ""
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        results = await asyncio.gather(*(_read(session, pod) for pod in pods))
    found = {pod.uid: result for pod, result in zip(pods, results, strict=True) if not isinstance(result, str)}
    problems = [result for result in results if isinstance(result, str)]
    return found, problems[-1] if problems else ""


async def _read(session: aiohttp.ClientSession, pod: Pod) -> Scrape | str:
    try:
        scrape: dict[Series, dict[float, float]] = {}
        for where in _URLS[pod.role]:
            found = await _get(session, pod, where)
            known = {term for term, _ in scrape}  # the first page that has a term counts
            scrape |= {series: counts for series, counts in found.items() if series[0] not in known}
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        logger.debug("metrics of pod %s: %r", pod.name, error)
        return type(error).__name__
    return scrape


async def _get(session: aiohttp.ClientSession, pod: Pod, where: str) -> dict[Series, dict[float, float]]:
    host = f"[{pod.address}]" if ":" in pod.address else pod.address
    async with session.get(f"http://{host}{where}") as response:
        response.raise_for_status()
        return parse(await response.text())
