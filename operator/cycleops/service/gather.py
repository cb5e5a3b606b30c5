"""Reads what a pass over a CycleService needs. All I/O of a service but its writes is here and in ``measure``."""

import datetime as dt
import secrets
from collections.abc import Callable, Mapping

from cycleops.api.cycleservice import CycleService, CycleServiceSpec
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.api.uri import parse_uri
from cycleops.controller.inbox import Inbox
from cycleops.controller.kinds import (
    CLAIM,
    CYCLE_SERVICE,
    POD,
    ROLE_LABEL,
    SECRET,
    SERVICE_LABEL,
)
from cycleops.controller.kube import Kube
from cycleops.controller.queue import Key
from cycleops.controller.reconcile import Owner
from cycleops.controller.store import Facts, Store
from cycleops.service.balancer import secret_names
from cycleops.service.children import SERVER_ROLE, Names
from cycleops.service.corrections import Corrections, corrections_of
from cycleops.service.demand import planned_rate
from cycleops.service.deployed import Deployed, read_deployed
from cycleops.service.evidence import Evidence, find_evidence
from cycleops.service.measure import Measurer
from cycleops.service.memory import Memory
from cycleops.service.observation import Adapted, Measurement, Outcome, ServiceObservation
from cycleops.service.planning import Planning
from cycleops.service.rollout import Pod, pod_of, rollout_of, startup_seconds
from cycleops.service.scaling import Scaling, served_of, service_of
from cycleops.service.settings import ServiceSettings
from cycleops.service.stored import classes_of, sources_of, typed


class Gatherer:
    def __init__(
        self, *, kube: Kube, store: Store, inbox: Inbox, settings: ServiceSettings, authority: Callable[[], str]
    ) -> None:
        self._kube, self._store, self._inbox, self._settings = kube, store, inbox, settings
        self._authority = authority
        self._planning = Planning()
        self._measurer = Measurer()
        self._scaling = Scaling()

    async def gather(self, key: Key) -> ServiceObservation | None:
        facts = self._store.get(CYCLE_SERVICE, namespace=key.namespace, name=key.name)
        if facts is None or facts.deleting:
            self._inbox.forget(key)
            self._forget_others()
            return None
        service = typed(CycleService, CYCLE_SERVICE, facts)
        now = dt.datetime.now(dt.UTC)
        classes = classes_of(self._store, service.spec.hardware)
        evidence = find_evidence(sources_of(self._store, service=service, classes=classes, settings=self._settings))
        children = self._store.children(facts.uid)
        deployed = read_deployed(children, service=key.name)
        pods, measurement = await self._look(service, facts, children, deployed, now)
        memory = self._scaling.memory(facts.uid, spec=service.spec, status=service.status, evidence=evidence)
        corrections = corrections_of(memory, service.spec.traffic)
        outcome = None
        if evidence.ready:
            outcome = await self._outcome(facts.uid, service, evidence, classes, deployed, measurement, corrections)
        known = self._with_class_of(deployed, classes)
        adapted = await self._adapted(
            facts.uid,
            service,
            evidence,
            outcome,
            known,
            children=children,
            deployed=deployed,
            pods=pods,
            now=now,
            memory=memory,
            tokens=corrections.tokens,
        )
        return ServiceObservation(
            owner=_owner(service, facts),
            children=children,
            now=now,
            spec=service.spec,
            status=service.status,
            evidence=evidence,
            outcome=outcome,
            classes=known,
            deployed=deployed,
            pods=pods,
            missing_claim=await self._missing_claim(key, children, evidence, deployed),
            measurement=measurement,
            adapted=adapted,
            deliveries=self._inbox.waiting(key, progress_every_seconds=0.0),
            authority=self._authority(),
            secrets=await self._secrets(key, service.spec),
            new_cache_password=None if (SECRET.kind, Names(key.name).cache) in children else secrets.token_hex(32),
        )

    def _forget_others(self) -> None:
        """A service is gone: keep plans and windows only of those that are there."""
        uids = {facts.uid for facts in self._store.all(CYCLE_SERVICE) if not facts.deleting}
        self._planning.keep_only(uids)
        self._measurer.keep_only(uids)
        self._scaling.keep_only(uids)

    async def _outcome(
        self,
        uid: str,
        service: CycleService,
        evidence: Evidence,
        classes: Mapping[str, HardwareClassSpec],
        deployed: Deployed | None,
        measurement: Measurement,
        corrections: Corrections,
    ) -> Outcome:
        """The plan, by what was measured. Hits count only where the plan is what serves: new pods have cold caches."""
        rate = planned_rate(
            traffic=service.spec.traffic,
            measured=measurement.measured,
            planned=deployed.requests_per_second if deployed is not None else None,
        )

        async def outcome(corrections: Corrections) -> Outcome:
            return await self._planning.outcome(
                uid,
                spec=service.spec,
                evidence=evidence,
                classes=classes,
                requests_per_second=rate,
                corrections=corrections,
            )

        found = await outcome(corrections)
        if not corrections.hit_ratio_lower:
            return found
        served = served_of(spec=service.spec, evidence=evidence, outcome=found, deployed=deployed)
        return found if served is not None and served.is_of(deployed) else await outcome(corrections.cold())

    async def _adapted(
        self,
        uid: str,
        service: CycleService,
        evidence: Evidence,
        outcome: Outcome | None,
        classes: Mapping[str, HardwareClassSpec],
        *,
        children: Mapping[tuple[str, str], Facts],
        deployed: Deployed | None,
        pods: tuple[Pod, ...],
        now: dt.datetime,
        memory: Memory | None,
        tokens: tuple[int, int] | None,
    ) -> Adapted | None:
        """None until something was measured: then the plan stands as it is."""
        interval = self._measurer.interval(uid)
        served = served_of(spec=service.spec, evidence=evidence, outcome=outcome, deployed=deployed)
        if served is None or deployed is None or (interval is None and memory is None):
            return None
        table = await self._planning.table(
            uid, spec=service.spec, evidence=evidence, classes=classes, served=served, tokens=tokens
        )
        if table is None:
            return None
        about = service_of(
            spec=service.spec,
            status=service.status,
            evidence=evidence,
            outcome=outcome,
            classes=classes,
            deployed=deployed,
            rollout=rollout_of(children.get(("Deployment", Names(service.metadata.name).server))),
            served=served,
            table=table,
            counted=memory.hits.counted if memory is not None else 0.0,
            startup_seconds=startup_seconds(pods, role=SERVER_ROLE),
        )
        return self._scaling.adapted(uid, interval=interval, now=now.timestamp(), service=about, table=table)

    def _with_class_of(
        self, deployed: Deployed | None, classes: Mapping[str, HardwareClassSpec]
    ) -> Mapping[str, HardwareClassSpec]:
        """Also the class of what serves, which the spec may not name any more."""
        return {**(classes_of(self._store, [deployed.hardware]) if deployed else {}), **classes}

    async def _look(
        self,
        service: CycleService,
        facts: Facts,
        children: Mapping[tuple[str, str], Facts],
        deployed: Deployed | None,
        now: dt.datetime,
    ) -> tuple[tuple[Pod, ...], Measurement]:
        """The pods, when some are not ready or it is time to measure, and what is measured."""
        if deployed is None:
            return (), Measurement()
        names = Names(service.metadata.name)
        rollouts = [rollout_of(children.get(("Deployment", name))) for name in (names.server, names.balancer)]
        due = self._measurer.due(facts.uid, now=now.timestamp()) and any(r.ready for r in rollouts)
        if not due and all(r.complete for r in rollouts):
            return (), self._measurer.last(facts.uid)
        pods = await self._pods(service)
        if not due:
            return pods, self._measurer.last(facts.uid)
        measurement = await self._measurer.measure(
            facts.uid,
            pods=pods,
            deployed=deployed,
            percentile=float(service.spec.budget.latency.percentile),
            now=now.timestamp(),
        )
        return pods, measurement

    async def _pods(self, service: CycleService) -> tuple[Pod, ...]:
        selector = f"{SERVICE_LABEL}={service.metadata.name}"
        found: list[Pod] = []
        async for _, page in self._kube.pages(kind=POD, namespace=service.metadata.namespace, selector=selector):
            found += [pod_of(body, role=body["metadata"]["labels"].get(ROLE_LABEL, "")) for body in page]
        return tuple(sorted(found, key=lambda pod: pod.name))

    async def _missing_claim(
        self,
        key: Key,
        children: Mapping[tuple[str, str], Facts],
        evidence: Evidence,
        deployed: Deployed | None,
    ) -> str:
        """Asked only while no server runs: a claim in use can't be deleted."""
        if rollout_of(children.get(("Deployment", Names(key.name).server))).ready:
            return ""
        uri = evidence.model.uri if evidence.ready and evidence.model else deployed.model_uri if deployed else ""
        if not uri:
            return ""
        claim = parse_uri(uri).claim
        found = await self._kube.find(kind=CLAIM, name=claim, namespace=key.namespace)
        return "" if found is not None else claim

    async def _secrets(self, key: Key, spec: CycleServiceSpec) -> Mapping[str, str]:
        """Versions of the Secrets that the balancers mount: a new certificate or key starts new balancers."""
        found = {}
        for name in secret_names(spec):
            metadata = await self._kube.find_metadata(kind=SECRET, name=name, namespace=key.namespace)
            found[name] = metadata["uid"] + metadata["resourceVersion"] if metadata is not None else ""
        return found


def _owner(service: CycleService, facts: Facts) -> Owner:
    return Owner(
        namespace=facts.namespace,
        name=facts.name,
        uid=facts.uid,
        generation=service.metadata.generation,
        status=facts.body.get("status", {}),
    )
