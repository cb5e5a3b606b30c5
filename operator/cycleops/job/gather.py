"""Reads what a pass over a CycleJob needs: from the store, and only where that does not do, from the API server."""

import asyncio
import datetime as dt
import math
import time
from typing import Any

from cycleops.api.conditions import JobCondition, is_true
from cycleops.api.cyclejob import CycleJob
from cycleops.api.hardwareclass import HardwareClass, HardwareClassSpec
from cycleops.api.uri import BadUriError
from cycleops.controller.inbox import Inbox
from cycleops.controller.kinds import CLAIM, CYCLE_JOB, HARDWARE_CLASS, JOB_LABEL, POD, SECRET
from cycleops.controller.kube import Kube
from cycleops.controller.queue import Key
from cycleops.controller.reconcile import Owner
from cycleops.controller.report import PROGRESS_SECONDS
from cycleops.controller.store import Facts, Store
from cycleops.job import names
from cycleops.job.evidence import fold
from cycleops.job.observation import ChildJob, Environment, Observation, child_job, claims_of
from cycleops.job.pod_notes import pod_notes
from cycleops.job.ssh import new_keys

# Pods that take longer than this to become ready are asked why.
SLOW_SECONDS = 15.0
REMEMBER_CLAIM_SECONDS = 5.0


class Gatherer:
    def __init__(self, *, kube: Kube, store: Store, inbox: Inbox) -> None:
        self._kube, self._store, self._inbox = kube, store, inbox
        self._claim_modes: dict[tuple[str, str], tuple[float, tuple[str, ...]]] = {}  # when asked, and the answer

    async def gather(self, key: Key, *, environment: Environment) -> Observation | None:
        facts = self._store.get(CYCLE_JOB, namespace=key.namespace, name=key.name)
        if facts is None or facts.deleting:
            self._inbox.forget(key)
            return None
        body = facts.body
        job = CycleJob.model_validate({**body, "apiVersion": CYCLE_JOB.api_version, "kind": CYCLE_JOB.kind})
        owner = Owner(
            namespace=key.namespace,
            name=key.name,
            uid=facts.uid,
            generation=job.metadata.generation,
            status=body.get("status", {}),
        )
        now = dt.datetime.now(dt.UTC)
        children = self._store.children(facts.uid)
        deliveries = self._inbox.waiting(key, progress_every_seconds=PROGRESS_SECONDS)
        claims, notes = await asyncio.gather(self._claims(job, key.namespace), self._notes(job, children, now))
        needs_keys = job.spec.workers.has_launcher and (SECRET.kind, names.ssh_secret(key.name)) not in children
        return Observation(
            owner=owner,
            children=children,
            job=job,
            evidence=fold(job.status, deliveries, job=key.name, spec=job.spec, now=now),
            deliveries=deliveries,
            classes=self._classes(job),
            claims=claims,
            pod_notes=notes,
            new_keys=new_keys() if needs_keys else None,
            environment=environment,
            heard=self._inbox.heard(key),
            now=now,
        )

    def _classes(self, job: CycleJob) -> dict[str, HardwareClassSpec]:
        found = {}
        for name in {job.spec.workers.hardware, *(job.spec.profile.hardware or ())}:
            facts = self._store.get(HARDWARE_CLASS, name=name)
            if facts is not None:
                body = {**facts.body, "apiVersion": HARDWARE_CLASS.api_version, "kind": HARDWARE_CLASS.kind}
                found[name] = HardwareClass.model_validate(body).spec
        return found

    async def _claims(self, job: CycleJob, namespace: str) -> dict[str, tuple[str, ...] | None]:
        """Asked until the job was once admitted: a claim in use can't be deleted."""
        if is_true(job.status.conditions, JobCondition.ADMITTED):
            return {}
        try:
            claims = list(claims_of(job.spec))
        except BadUriError:
            return {}  # a policy says so
        found = await asyncio.gather(*(self._claim(namespace, claim) for claim in claims))
        return dict(zip(claims, found, strict=True))

    async def _claim(self, namespace: str, name: str) -> tuple[str, ...] | None:
        """Its access modes. A claim that is there is remembered for a moment: jobs come in bursts, on few claims."""
        asked, modes = self._claim_modes.get((namespace, name), (-math.inf, ()))
        now = time.monotonic()
        if now - asked < REMEMBER_CLAIM_SECONDS:
            return modes
        body = await self._kube.find(kind=CLAIM, name=name, namespace=namespace)
        if body is None:
            return None
        modes = tuple(body["spec"].get("accessModes", ()))
        self._claim_modes = {key: v for key, v in self._claim_modes.items() if now - v[0] < REMEMBER_CLAIM_SECONDS}
        self._claim_modes[namespace, name] = (now, modes)
        return modes

    async def _notes(self, job: CycleJob, children: dict[tuple[str, str], Facts], now: dt.datetime) -> tuple[str, ...]:
        """What pods say of themselves; asked only when they are slow or have failed."""
        if is_true(job.status.conditions, JobCondition.SUCCEEDED) or is_true(
            job.status.conditions, JobCondition.FAILED
        ):
            return ()
        jobs = [(f.body, child_job(f)) for (kind, _), f in children.items() if kind == "Job" and not f.deleting]
        if not any(_troubled(body, state, now) for body, state in jobs):
            return ()
        pods: list[dict[str, Any]] = []
        selector = f"{JOB_LABEL}={job.metadata.name}"
        async for _, page in self._kube.pages(kind=POD, namespace=job.metadata.namespace, selector=selector):
            pods.extend(page)
        return pod_notes(pods)


def _troubled(body: dict[str, Any], job: ChildJob, now: dt.datetime) -> bool:
    if job.failed_reason:
        return True
    if job.ended or job.suspended or job.active == 0 or job.ready >= job.active:
        return False
    since = body["status"].get("startTime") or body["metadata"]["creationTimestamp"]
    return (now - dt.datetime.fromisoformat(since)).total_seconds() > SLOW_SECONDS
