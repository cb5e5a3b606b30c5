"""One pass over one user object: gather -> plan -> apply -> conclude -> one status write.

The kinds (CycleJob, CycleService) plug in as a :class:`Cycle`. ``gather`` does the reading; ``plan`` and ``conclude``
are pure. A pass that finds everything as it should be writes nothing.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from cycleops.controller import metrics
from cycleops.controller.apply import Applier, Problem, merge_patch, operations
from cycleops.controller.kinds import EVENT, MANAGER, Kind
from cycleops.controller.kube import ApiError, Kube, NotFoundError
from cycleops.controller.queue import Key
from cycleops.controller.store import Body, Facts, Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """The user object of a pass. ``status`` is what its status holds now, as plain JSON."""

    namespace: str
    name: str
    uid: str
    generation: int
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be. Children that are neither desired nor deleted are left alone."""

    desired: Sequence[Body] = ()
    delete: Sequence[Facts] = ()
    create_free: Sequence[Body] = ()  # objects without an owner, made if absent: evidence that outlives its job
    delete_owner: bool = False  # the user object's time to live is over
    note: Any = None  # what the cycle itself wants to hand from plan to conclude


@dataclass(frozen=True, slots=True)
class Happening:
    """What ``kubectl describe`` is to show of the user object, as an Event. ``warning``: something went wrong."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Conclusion:
    """``status`` is the whole status that should be; fields left out of it are removed. None leaves it alone.

    ``happenings`` are told after the status was written, once.
    """

    status: Mapping[str, Any] | None
    requeue_after_seconds: float | None = None
    happenings: Sequence[Happening] = ()


class Observation(Protocol):
    """What a cycle's gather returns: frozen. ``children`` are the owner's, by (kind, name)."""

    @property
    def owner(self) -> Owner: ...

    @property
    def children(self) -> Mapping[tuple[str, str], Facts]: ...


ObservationT = TypeVar("ObservationT", bound=Observation)


class Cycle(Protocol[ObservationT]):
    """What a kind brings."""

    @property
    def kind(self) -> Kind: ...

    async def gather(self, key: Key) -> ObservationT | None:
        """Read everything the decision needs, the clock too. None when there is nothing to do (gone, deleting)."""
        ...

    def plan(self, observation: ObservationT) -> Plan:
        """Pure: the children that should be."""
        ...

    def conclude(self, observation: ObservationT, plan: Plan, problems: Sequence[Problem]) -> Conclusion:
        """Pure: the status that says so, given the writes that were refused."""
        ...

    def concluded(self, observation: ObservationT) -> None:
        """The status is stored: acknowledge what waited for that (reports of pods)."""
        ...

    def dependents(self, *, kind: Kind, namespace: str, name: str) -> Iterable[Key]:
        """Keys of this cycle's objects that should look again when an object that isn't their child changed."""
        ...


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Runs passes. Writes to one user object never overlap: the queue sees to that."""

    kube: Kube
    store: Store
    cycles: Mapping[str, Cycle[Any]] = field(default_factory=dict)

    async def run_pass(self, key: Key) -> float | None:
        cycle = self.cycles[key.kind]
        observation = await cycle.gather(key)
        if observation is None:
            return None
        plan = cycle.plan(observation)
        owner = observation.owner
        wanted = operations(desired=plan.desired, observed=observation.children, delete=plan.delete)
        applier = Applier(kube=self.kube, store=self.store)
        problems = await applier.perform(wanted, owner_uid=owner.uid)
        await applier.create_free(plan.create_free)
        conclusion = cycle.conclude(observation, plan, problems)
        await self._write_status(cycle.kind, owner, conclusion.status)
        cycle.concluded(observation)
        await self._tell(cycle.kind, owner, conclusion.happenings)
        if plan.delete_owner:
            await self.kube.delete(kind=cycle.kind, name=owner.name, uid=owner.uid, namespace=owner.namespace)
            return None
        return conclusion.requeue_after_seconds

    async def _tell(self, kind: Kind, owner: Owner, happenings: Sequence[Happening]) -> None:
        """Events are for people: the status says the same, so one that can't be written is only logged."""
        for happening in happenings:
            body = event_of(kind, owner, happening, now=datetime.now(UTC))
            metrics.WRITES.labels(kind=EVENT.kind, verb="create").inc()
            try:
                await self.kube.create(kind=EVENT, namespace=owner.namespace, body=body)
            except ApiError as error:
                logger.warning("event %s of %s %s: %s", happening.reason, kind.kind, owner.name, error)

    async def _write_status(self, kind: Kind, owner: Owner, status: Mapping[str, Any] | None) -> None:
        patch = merge_patch(owner.status, status) if status is not None else {}
        if not patch:
            return
        body = {"metadata": {"uid": owner.uid}, "status": patch}
        metrics.WRITES.labels(kind=kind.kind, verb="status").inc()
        try:
            written = await self.kube.merge(
                kind=kind, name=owner.name, namespace=owner.namespace, body=body, subresource="status"
            )
        except NotFoundError:
            return  # deleted meanwhile: the watch will tell
        self.store.put(kind, written)


_LONGEST_MESSAGE = 1024  # of an Event


def event_of(kind: Kind, owner: Owner, happening: Happening, *, now: datetime) -> Body:
    """The Event's body. Pure."""
    time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"generateName": f"{owner.name}.", "namespace": owner.namespace},
        "involvedObject": {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "namespace": owner.namespace,
            "name": owner.name,
            "uid": owner.uid,
        },
        "type": "Warning" if happening.warning else "Normal",
        "reason": happening.reason,
        "message": happening.message[:_LONGEST_MESSAGE],
        "source": {"component": MANAGER},
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
