"""CycleService as the operator's loop sees it: see ``controller.reconcile.Cycle``."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cycleops.controller.apply import Problem
from cycleops.controller.inbox import Inbox
from cycleops.controller.kinds import CYCLE_JOB, CYCLE_PROFILE, CYCLE_SERVICE, HARDWARE_CLASS, Kind
from cycleops.controller.kube import Kube
from cycleops.controller.queue import Key
from cycleops.controller.reconcile import Conclusion, Plan
from cycleops.controller.store import Facts, Store
from cycleops.service.desired import desired_children, measuring_desired, unwanted_children
from cycleops.service.gather import Gatherer
from cycleops.service.measure import INTERVAL_SECONDS
from cycleops.service.measuring import new_profiles
from cycleops.service.observation import ServiceObservation
from cycleops.service.policies import Decision, decide
from cycleops.service.remeasure import happenings
from cycleops.service.settings import ServiceSettings
from cycleops.service.status import new_status

# Pods are not watched, so while they start they are looked at more often.
STARTING_SECONDS = 5.0
WAITING_FOR_CLAIM_SECONDS = 15.0


class ServiceCycle:
    kind = CYCLE_SERVICE

    """``authority`` gives the report server's CA, PEM, as it is now."""

    def __init__(
        self, *, kube: Kube, store: Store, inbox: Inbox, settings: ServiceSettings, authority: Callable[[], str]
    ) -> None:
        self._store, self._inbox, self._settings = store, inbox, settings
        self._gatherer = Gatherer(kube=kube, store=store, inbox=inbox, settings=settings, authority=authority)

    async def gather(self, key: Key) -> ServiceObservation | None:
        return await self._gatherer.gather(key)

    def plan(self, observation: ServiceObservation) -> Plan:
        decision = decide(observation)
        deploy = decision.deploy
        hardware = observation.classes.get(deploy.hardware) if deploy is not None else None
        made = new_profiles(
            owner=observation.owner, profiles=observation.evidence.profiles, deliveries=observation.deliveries
        )
        if deploy is None or hardware is None:  # without its class, what serves is left alone
            return Plan(create_free=made, note=decision)
        desired = desired_children(
            owner=observation.owner,
            spec=observation.spec,
            deployed=deploy,
            hardware=hardware,
            settings=self._settings,
            secrets=observation.secrets,
            new_cache_password=observation.new_cache_password,
        )
        desired += measuring_desired(observation, settings=self._settings)
        unwanted = unwanted_children(desired, observed=observation.children)
        return Plan(desired=desired, delete=unwanted, create_free=made, note=decision)

    def conclude(self, observation: ServiceObservation, plan: Plan, problems: Sequence[Problem]) -> Conclusion:
        decision: Decision = plan.note
        status = new_status(observation, decision, problems)
        return Conclusion(
            status=status,
            requeue_after_seconds=_look_again(observation, decision, status),
            happenings=happenings(observation.owner.status, status),
        )

    def concluded(self, observation: ServiceObservation) -> None:
        owner = observation.owner
        key = Key.of(CYCLE_SERVICE, namespace=owner.namespace, name=owner.name)
        self._inbox.acknowledge(key, observation.deliveries)

    def dependents(self, *, kind: Kind, namespace: str, name: str) -> Iterable[Key]:
        """Services that name the changed job or class, or whose model the changed profile may be of."""
        for facts in self._store.all(CYCLE_SERVICE):
            if _concerned(facts, kind=kind, namespace=namespace, name=name):
                yield Key.of(CYCLE_SERVICE, namespace=facts.namespace, name=facts.name)


def _concerned(facts: Facts, *, kind: Kind, namespace: str, name: str) -> bool:
    if kind is HARDWARE_CLASS:
        return name in facts.body["spec"]["hardware"]
    if facts.namespace != namespace:
        return False
    if kind is CYCLE_JOB:
        return bool(facts.body["spec"]["model"].get("cycleJob") == name)
    return kind is CYCLE_PROFILE


def _look_again(observation: ServiceObservation, decision: Decision, status: Mapping[str, Any]) -> float | None:
    """None: only an event changes anything."""
    if observation.missing_claim:
        return WAITING_FOR_CLAIM_SECONDS
    if decision.deploy is None:
        return None
    progressing = any(c["type"] == "Progressing" and c["status"] == "True" for c in status["conditions"])
    return STARTING_SECONDS if progressing else INTERVAL_SECONDS
