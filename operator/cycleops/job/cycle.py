"""CycleJob as the operator's loop knows it: gather, plan, conclude."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cycle_wire.reports import ProfileReport
from cycleops.api.cyclejob_status import Goodput
from cycleops.api.cycleprofile import CycleProfileSpec
from cycleops.controller import metrics
from cycleops.controller.apply import Problem
from cycleops.controller.children import child_labels
from cycleops.controller.inbox import Inbox
from cycleops.controller.kinds import CYCLE_JOB, CYCLE_PROFILE, HARDWARE_CLASS, JOB_LABEL, Kind
from cycleops.controller.kube import Kube
from cycleops.controller.queue import Key
from cycleops.controller.reconcile import Conclusion, Plan
from cycleops.controller.store import Store
from cycleops.job import names
from cycleops.job.configs import source_of
from cycleops.job.decide import decide
from cycleops.job.decision import Decision, Step
from cycleops.job.desired import desired_children, unwanted_children
from cycleops.job.gather import Gatherer
from cycleops.job.goodput import spent
from cycleops.job.observation import Environment, Observation
from cycleops.job.status import refused, requeue_after_seconds, status_of, time_to_live_seconds


class JobCycle:
    """``authority`` gives the report server's CA, PEM, as it is now."""

    def __init__(
        self,
        *,
        kube: Kube,
        store: Store,
        inbox: Inbox,
        authority: Callable[[], str],
        report_url: str,
        trainer_image: str,
        server_image: str,
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._gatherer = Gatherer(kube=kube, store=store, inbox=inbox)
        self._authority = authority
        self._report_url, self._trainer_image, self._server_image = report_url, trainer_image, server_image

    @property
    def kind(self) -> Kind:
        return CYCLE_JOB

    async def gather(self, key: Key) -> Observation | None:
        environment = Environment(
            trainer_image=self._trainer_image,
            server_image=self._server_image,
            report_url=self._report_url,
            authority=self._authority(),
        )
        return await self._gatherer.gather(key, environment=environment)

    def plan(self, observation: Observation) -> Plan:
        decision = decide(observation)
        status = status_of(observation, decision)
        left = time_to_live_seconds(observation, status) if decision.step in (Step.SUCCEED, Step.FAIL) else None
        return Plan(
            desired=desired_children(observation, decision.step),
            delete=unwanted_children(observation, decision.step),
            create_free=_new_profiles(observation),
            delete_owner=left is not None and left <= 0.0,
            note=decision,
        )

    def conclude(self, observation: Observation, plan: Plan, problems: Sequence[Problem]) -> Conclusion:
        decision: Decision = refused(plan.note, problems)
        status = status_of(observation, decision)
        return Conclusion(
            status=status.to_dict(), requeue_after_seconds=requeue_after_seconds(observation, decision, status)
        )

    def concluded(self, observation: Observation) -> None:
        owner = observation.owner
        key = Key.of(CYCLE_JOB, namespace=owner.namespace, name=owner.name)
        self._inbox.acknowledge(key, observation.deliveries)
        stored = self._store.get(CYCLE_JOB, namespace=owner.namespace, name=owner.name)
        if stored is not None and (goodput := stored.body.get("status", {}).get("goodput")):
            for part, seconds in spent(observation.job.status.goodput, Goodput.model_validate(goodput)).items():
                metrics.TRAINING_SECONDS.labels(part=part).inc(seconds)

    def dependents(self, *, kind: Kind, namespace: str, name: str) -> Iterable[Key]:
        """Jobs that name a HardwareClass."""
        del namespace  # classes are cluster-wide
        if kind is not HARDWARE_CLASS:
            return
        for facts in self._store.all(CYCLE_JOB):
            spec = facts.body["spec"]
            if name in (spec["workers"]["hardware"], *(spec.get("profile", {}).get("hardware") or ())):
                yield Key.of(CYCLE_JOB, namespace=facts.namespace, name=facts.name)


def _new_profiles(o: Observation) -> list[dict[str, Any]]:
    """CycleProfiles that pods have just reported. They have no owner: evidence outlives its job."""
    result = []
    for delivery in o.deliveries:
        if not isinstance(delivery.message, ProfileReport):
            continue
        measured = delivery.message.profile
        spec = CycleProfileSpec(**measured.model_dump(), job=o.name, source=source_of(o.spec, variant=measured.variant))
        metadata = {
            "name": names.cycle_profile(o.name, measured),
            "namespace": o.owner.namespace,
            "labels": child_labels(owner=o.owner, label=JOB_LABEL),
        }
        result.append(
            {
                "apiVersion": CYCLE_PROFILE.api_version,
                "kind": CYCLE_PROFILE.kind,
                "metadata": metadata,
                "spec": spec.to_dict(),
            }
        )
    return result
